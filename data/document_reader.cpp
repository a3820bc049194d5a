#include "data/document_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "src/core/error.h"

namespace kiln::data {
namespace {

constexpr const char* kLineHint =
    R"(every line must be an object with the document as a string: {"text": "..."})";

enum class Format { jsonl, txt };

std::string shown(const std::string& input) {
  return input == kStandardInput ? "standard input" : input;
}

Format format_of(const std::string& input, const std::string& format) {
  if (format == "jsonl") return Format::jsonl;
  if (format == "txt") return Format::txt;
  if (format != "auto") {
    throw Error(ExitCode::usage, fmt::format("unknown format \"{}\"", format), "give auto, jsonl or txt");
  }
  const auto extension = std::filesystem::path(input).extension();
  if (extension == ".jsonl") return Format::jsonl;
  if (extension == ".txt") return Format::txt;
  throw Error(
      ExitCode::usage,
      input == kStandardInput ? "standard input has no name that tells its format"
                              : fmt::format("{} is neither .jsonl nor .txt", input),
      "say --format txt for plain text, or --format jsonl for one JSON object a line with a \"text\" field");
}

// An open file or stream, read through a buffer that holds what is not taken yet.
class Input {
 public:
  Input(const std::string& name, int64_t offset) : name_(name), offset_(offset) {
    if (name == kStandardInput) {
      descriptor_ = STDIN_FILENO;
      return;
    }
    descriptor_ = ::open(name.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor_ < 0) fail("open");
    if (offset > 0 && ::lseek(descriptor_, offset, SEEK_SET) != offset) fail("seek in");
  }
  ~Input() {
    if (descriptor_ > STDIN_FILENO) ::close(descriptor_);
  }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  // What is there and not taken; grows to at least `bytes` unless the input ends.
  std::string_view ahead(size_t bytes) {
    while (available() < bytes && !ended_) {
      if (begin_ > 0) buffer_.erase(0, std::exchange(begin_, 0));
      const size_t had = buffer_.size();
      const size_t wanted = std::clamp(bytes - had, kReadBytes, std::max(had, kReadBytes));
      buffer_.resize(had + wanted);
      const ssize_t got = ::read(descriptor_, buffer_.data() + had, wanted);
      buffer_.resize(had + static_cast<size_t>(std::max<ssize_t>(got, 0)));
      if (got < 0 && errno != EINTR) fail("read");
      ended_ = got == 0;
    }
    return std::string_view(buffer_).substr(begin_);
  }
  bool ended() const { return ended_; }  // nothing comes after what is there

  void take(size_t bytes) {
    begin_ += bytes;
    offset_ += static_cast<int64_t>(bytes);
  }
  int64_t offset() const { return offset_; }

 private:
  static constexpr size_t kReadBytes = 1 << 18;

  size_t available() const { return buffer_.size() - begin_; }

  [[noreturn]] void fail(const char* what) const {
    const int code = errno;
    throw Error(ExitCode::data,
                fmt::format("cannot {} {} at byte offset {}: {}", what, shown(name_),
                            offset_ + static_cast<int64_t>(available()), std::strerror(code)),
                "inputs are .jsonl and .txt files, or - for standard input; check the path and the disk");
  }

  std::string name_;
  int descriptor_ = -1;
  int64_t offset_;
  std::string buffer_;
  size_t begin_ = 0;  // of what is not taken
  bool ended_ = false;
};

// How many bytes the next piece of a text takes; `text` shows its next two limits, or all of it when it
// `ended`.
size_t piece_bytes(std::string_view text, size_t limit, bool ended) {
  if (ended && text.size() <= limit) return text.size();
  // The last two pieces are of about equal size.
  const size_t share = ended && text.size() < 2 * limit ? (text.size() + 1) / 2 : limit;
  for (const std::string_view separator : {"\n\n", "\n", " "}) {
    if (share < separator.size()) continue;
    const size_t cut = text.rfind(separator, share - separator.size());
    if (cut != std::string_view::npos && cut + separator.size() > share / 2) return cut + separator.size();
  }
  size_t cut = share;  // not inside a UTF-8 character, if it is UTF-8
  while (cut > 1 && share - cut < 3 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) cut--;
  return cut;
}

// nlohmann/json's sentence without "[json.exception...] parse error at line 1, column 5: " in front of it and
// without "; last read: ...", which may be the whole document.
std::string reason(std::string_view what) {
  const auto drop = [&](std::string_view front, std::string_view up_to) {
    const size_t end = what.starts_with(front) ? what.find(up_to) : std::string_view::npos;
    if (end != std::string_view::npos) what.remove_prefix(end + up_to.size());
  };
  drop("[json.exception", "] ");
  drop("parse error at", ": ");
  return std::string(what.substr(0, what.find("; last read:")));
}

struct Place {
  std::string input;
  const ReadPosition& position;

  [[noreturn]] void fail(int64_t column,
                         const std::string& what) const {  // column: bytes into the line, from 0
    throw Error(ExitCode::data,
                fmt::format("{}, line {}, column {} (byte offset {}): {}", input, position.line + 1,
                            column + 1, position.offset + column, what),
                kLineHint);
  }
};

std::string text_of_line(std::string_view line, const Place& place) {
  try {
    auto object = nlohmann::json::parse(line);
    if (!object.is_object()) place.fail(0, fmt::format("{} instead of an object", object.type_name()));
    const auto text = object.find("text");
    if (text == object.end()) place.fail(0, R"(the object has no field "text")");
    if (!text->is_string())
      place.fail(0, fmt::format(R"("text" is {} instead of a string)", text->type_name()));
    return std::move(text->get_ref<std::string&>());
  } catch (const nlohmann::json::parse_error& error) {
    // error.byte counts from 1 and names the last byte read; one past the line when that ends too early.
    place.fail(std::min(static_cast<int64_t>(error.byte), static_cast<int64_t>(line.size()) + 1) - 1,
               reason(error.what()));
  } catch (const nlohmann::json::exception& error) {  // a number beyond fp64, which comes without a place
    place.fail(0, reason(error.what()));
  }
}

}  // namespace

struct DocumentReader::State {
  ReadOptions options;
  std::vector<Format> formats;
  std::vector<int64_t> sizes;  // -1: a stream
  ReadPosition position;
  std::unique_ptr<Input> input;  // of position.input, once it is read from
  int64_t earlier_bytes = 0;     // of the inputs before that

  const std::string& name() const { return options.inputs[static_cast<size_t>(position.input)]; }
  bool at_end() const { return position.input == static_cast<int64_t>(options.inputs.size()); }

  void take(size_t bytes) {
    input->take(bytes);
    position.offset = input->offset();
  }

  size_t longest() const { return static_cast<size_t>(options.longest_record_bytes); }

  [[noreturn]] void too_long(const char* what, const char* hint) const {
    throw Error(ExitCode::data,
                fmt::format("{}, line {} (byte offset {}): {} of more than {} bytes", shown(name()),
                            position.line + 1, position.offset, what, longest()),
                hint);
  }

  // The next line that is not blank; false at the end of the input.
  bool next_line(Record& record) {
    for (;;) {
      size_t searched = 0, end = 0;
      std::string_view text = input->ahead(1);
      while ((end = text.find('\n', searched)) == std::string_view::npos && !input->ended() &&
             text.size() <= longest()) {
        searched = text.size();
        text = input->ahead(2 * searched + 1);
      }
      if (text.empty()) return false;
      const std::string_view line = text.substr(0, end);
      if (line.size() > longest()) too_long("a line", "one line is one document: cut it into several");
      const bool blank = line.find_first_not_of(" \t\r") == std::string_view::npos;
      if (!blank) record = {position, std::string(line)};
      take(std::min(line.size() + 1, text.size()));
      position.line++;
      if (!blank) return true;
    }
  }

  bool next_piece(Record& record) {
    const bool cut = options.text_document_bytes > 0;
    const auto limit = static_cast<size_t>(options.text_document_bytes);
    std::string_view text = input->ahead(cut ? 2 * limit : longest() + 1);
    if (text.empty()) return false;
    bool ends = input->ended();
    const int64_t room = options.text_cut - position.offset;  // other inputs are empty
    if (room > 0 && static_cast<int64_t>(text.size()) > room) {
      text = text.substr(0, static_cast<size_t>(room));
      ends = true;
    }
    if (!cut && text.size() > longest())
      too_long("a text", "let long texts be cut: --text-document-bytes 50000");
    const size_t bytes = cut ? piece_bytes(text, limit, ends) : text.size();
    record = {position, std::string(text.substr(0, bytes))};
    take(bytes);
    return true;
  }

  bool next(Record& record) {
    for (; !at_end(); next_input()) {
      if (!input) input = std::make_unique<Input>(name(), position.offset);
      const bool found = formats[static_cast<size_t>(position.input)] == Format::jsonl ? next_line(record)
                                                                                       : next_piece(record);
      if (found) return true;
    }
    return false;
  }

  void next_input() {
    earlier_bytes += position.offset;
    position = {.input = position.input + 1};
    input.reset();
  }
};

std::vector<std::string> byte_order_marks(const std::vector<std::string>& inputs) {
  std::vector<std::string> sentences;
  for (const std::string& input : inputs) {
    std::error_code ignored;  // pipes must not be read twice; what is missing is told elsewhere
    if (input == kStandardInput || !std::filesystem::is_regular_file(input, ignored)) continue;
    std::array<char, 3> bytes{};
    std::ifstream(input, std::ios::binary).read(bytes.data(), bytes.size());
    const std::string_view start(bytes.data(), bytes.size());
    if (start.starts_with("\xFF\xFE") || start.starts_with("\xFE\xFF")) {
      sentences.push_back(fmt::format(
          "{} looks like UTF-16, and its bytes are taken for UTF-8: iconv -f UTF-16 -t UTF-8 converts it",
          input));
    } else if (start == "\xEF\xBB\xBF") {
      sentences.push_back(fmt::format(
          "{} begins with a byte order mark, which becomes part of its text: sed '1s/^\\xEF\\xBB\\xBF//' "
          "removes it",
          input));
    }
  }
  return sentences;
}

DocumentReader::DocumentReader(ReadOptions options, ReadPosition start) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.options = std::move(options);
  s.position = start;
  for (const auto& input : s.options.inputs) {
    struct stat info {};
    if (input != kStandardInput && ::stat(input.c_str(), &info) != 0) {
      throw Error(ExitCode::data, fmt::format("cannot read {}: {}", input, std::strerror(errno)),
                  "inputs are .jsonl and .txt files, or - for standard input; check the spelling");
    }
    if (input != kStandardInput && S_ISDIR(info.st_mode)) {
      throw Error(ExitCode::data, fmt::format("{} is a folder", input),
                  fmt::format("name the files in it: {}/*.txt",
                              std::filesystem::path(input).lexically_normal().string()));
    }
    s.formats.push_back(format_of(input, s.options.format));
    const bool regular = input != kStandardInput && S_ISREG(info.st_mode);
    s.sizes.push_back(regular ? static_cast<int64_t>(info.st_size) : -1);
    if (static_cast<int64_t>(s.sizes.size()) <= start.input)
      s.earlier_bytes += std::max<int64_t>(s.sizes.back(), 0);
  }
}

DocumentReader::~DocumentReader() = default;
DocumentReader::DocumentReader(DocumentReader&&) noexcept = default;

bool DocumentReader::read(int64_t bytes, std::vector<Record>& records) {
  Record record;
  int64_t sum = 0;
  while (sum < bytes && state_->next(record)) {
    sum += std::max<int64_t>(static_cast<int64_t>(record.bytes.size()), 1);
    records.push_back(std::move(record));
  }
  return sum > 0;
}

Record DocumentReader::record_at(const ReadPosition& position, int64_t bytes) const {
  Input input(state_->options.inputs.at(static_cast<size_t>(position.input)), position.offset);
  const auto wanted = static_cast<size_t>(bytes);
  return {position, std::string(input.ahead(wanted).substr(0, wanted))};
}

const ReadPosition& DocumentReader::position() const {
  return state_->position;
}

int64_t DocumentReader::bytes_done() const {
  return state_->earlier_bytes + state_->position.offset;
}

int64_t DocumentReader::bytes_total() const {
  int64_t total = 0;
  for (const int64_t size : state_->sizes) {
    if (size < 0) return -1;
    total += size;
  }
  return total;
}

std::string DocumentReader::text_of(Record record) const {
  const auto input = static_cast<size_t>(record.position.input);
  if (state_->formats[input] == Format::txt) return std::move(record.bytes);
  return text_of_line(record.bytes, {shown(state_->options.inputs[input]), record.position});
}

}  // namespace kiln::data
