#include "data/text_cut.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string_view>

#include "src/core/error.h"
#include "src/core/file.h"

namespace kiln::data {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kBlanks = " \t\r\n";

// The index of the only input that holds anything, if that is a .txt; -1: there is none.
int64_t single_text(const ReadOptions& read) {
  int64_t single = -1;
  for (size_t i = 0; i < read.inputs.size(); i++) {
    const std::string& input = read.inputs[i];
    if (input == kStandardInput || !fs::is_regular_file(input)) return -1;
    if (fs::file_size(input) == 0) continue;
    const bool is_text =
        read.format == "txt" || (read.format != "jsonl" && fs::path(input).extension() == ".txt");
    if (!is_text || single >= 0) return -1;
    single = static_cast<int64_t>(i);
  }
  return single;
}

// The bytes of the character that starts at `begin`, if that is UTF-8; else 1.
size_t character_bytes(std::string_view text, size_t begin) {
  size_t end = begin + 1;
  while (end < text.size() && end - begin < 4 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80)
    end++;
  return end - begin;
}

// The end of the separator in text that lies nearest to `target` and in [low, high]; npos: there is none.
size_t nearest(std::string_view text, std::string_view separator, size_t low, size_t high, size_t target) {
  const auto fits = [&](size_t cut) { return cut != std::string_view::npos && cut >= low && cut <= high; };
  size_t before = text.rfind(separator, target >= separator.size() ? target - separator.size() : 0);
  if (before != std::string_view::npos) before += separator.size();
  if (before > target) before = std::string_view::npos;
  size_t after = text.find(separator, target + 1 > separator.size() ? target + 1 - separator.size() : 0);
  if (after != std::string_view::npos) after += separator.size();
  if (!fits(before)) return fits(after) ? after : std::string_view::npos;
  return fits(after) && after - target < target - before ? after : before;
}

}  // namespace

TextCut cut_single_text(const ReadOptions& read, double validation_fraction) {
  const int64_t input = validation_fraction > 0 ? single_text(read) : -1;
  if (input < 0) return {};
  const std::string& name = read.inputs[static_cast<size_t>(input)];
  const MappedFile file(name);
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  const double share = validation_fraction * static_cast<double>(text.size());
  if (read.text_document_bytes > 0 && share >= static_cast<double>(read.text_document_bytes)) return {};
  const size_t first = text.find_first_not_of(kBlanks), last = text.find_last_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  const size_t low = first + character_bytes(text, first);  // both parts have some text
  size_t high = last;
  while (high > low && last - high < 3 && (static_cast<unsigned char>(text[high]) & 0xC0) == 0x80) high--;
  if (low > high) {
    throw Error(ExitCode::data, fmt::format("{}: a text of one character has no part for validation", name),
                "give more text, or no validation: --validation-fraction 0");
  }
  const size_t target = std::clamp(text.size() - static_cast<size_t>(std::llround(share)), low, high);
  const auto bytes = static_cast<int64_t>(text.size());
  struct Kind {
    std::string_view separator;
    const char* place;
  };
  const double farthest = std::max(share, std::min(4096.0, 0.25 * static_cast<double>(text.size())));
  for (const Kind& kind : {Kind{"\n\n", "a blank line"}, Kind{"\r\n\r\n", "a blank line"},
                           Kind{"\n", "a line's end"}, Kind{" ", "a space"}}) {
    const size_t cut = nearest(text, kind.separator, low, high, target);
    // A cut far off would leave validation with nothing or with most of the text: rather a cut at less.
    const double off =
        cut == std::string_view::npos ? 0 : std::abs(static_cast<double>(cut) - static_cast<double>(target));
    if (cut != std::string_view::npos && off <= farthest) {
      return {static_cast<int64_t>(cut), bytes, kind.place};
    }
  }
  size_t cut = target;  // not inside a UTF-8 character, if it is UTF-8
  while (cut > low && target - cut < 3 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) cut--;
  return {static_cast<int64_t>(cut), bytes, "a character"};
}

}  // namespace kiln::data
