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

bool is_single_text(const ReadOptions& read) {
  if (read.inputs.size() != 1 || read.inputs[0] == kStandardInput || read.format == "jsonl") return false;
  return fs::is_regular_file(read.inputs[0]) &&
         (read.format == "txt" || fs::path(read.inputs[0]).extension() == ".txt");
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
  if (validation_fraction <= 0 || !is_single_text(read)) return {};
  const MappedFile file(read.inputs[0]);
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  const double share = validation_fraction * static_cast<double>(text.size());
  if (read.text_document_bytes > 0 && share >= static_cast<double>(read.text_document_bytes)) return {};
  const size_t first = text.find_first_not_of(kBlanks), last = text.find_last_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  const size_t low = first + 1, high = last;  // both parts have some text
  if (low > high) {
    throw Error(ExitCode::data,
                fmt::format("{}: a text of one character has no part for validation", read.inputs[0]),
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
