#include "data/document_reader.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "src/core/error.h"
#include "src/core/file.h"

namespace kiln::data {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLineHint =
    R"(every line must be an object with the document as a string: {"text": "..."})";

struct Position {
  const fs::path& path;
  int64_t line;    // from 1
  int64_t offset;  // of the line's first byte in the file

  [[noreturn]] void fail(int64_t column,
                         const std::string& what) const {  // column: bytes into the line, from 0
    throw Error(ExitCode::data,
                fmt::format("{}, line {}, column {} (byte offset {}): {}", path.string(), line, column + 1,
                            offset + column, what),
                kLineHint);
  }
};

// nlohmann/json's sentence without "[json.exception.parse_error.101] parse error at line 1, column 5: " in
// front of it and without "; last read: ...", which may be the whole document.
std::string reason(std::string_view what) {
  const auto drop = [&](std::string_view front, std::string_view up_to) {
    const size_t end = what.starts_with(front) ? what.find(up_to) : std::string_view::npos;
    if (end != std::string_view::npos) what.remove_prefix(end + up_to.size());
  };
  drop("[json.exception", "] ");
  drop("parse error at", ": ");
  return std::string(what.substr(0, what.find("; last read:")));
}

std::string text_of_line(std::string_view line, const Position& position) {
  try {
    auto object = nlohmann::json::parse(line);
    if (!object.is_object()) position.fail(0, fmt::format("{} instead of an object", object.type_name()));
    const auto text = object.find("text");
    if (text == object.end()) position.fail(0, R"(the object has no field "text")");
    if (!text->is_string())
      position.fail(0, fmt::format(R"("text" is {} instead of a string)", text->type_name()));
    return std::move(text->get_ref<std::string&>());
  } catch (const nlohmann::json::parse_error& error) {
    // error.byte counts from 1 and names the last byte read; one past the line when that ends too early.
    position.fail(std::min(static_cast<int64_t>(error.byte), static_cast<int64_t>(line.size()) + 1) - 1,
                  reason(error.what()));
  } catch (const nlohmann::json::exception& error) {  // a number beyond fp64, which comes without a place
    position.fail(0, reason(error.what()));
  }
}

void read_jsonl(const fs::path& path, std::string_view content, const DocumentVisitor& visit) {
  int64_t number = 0;
  for (size_t begin = 0; begin < content.size();) {
    const size_t end = std::min(content.find('\n', begin), content.size());
    const std::string_view line = content.substr(begin, end - begin);
    number++;
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) {
      const std::string text = text_of_line(line, {path, number, static_cast<int64_t>(begin)});
      visit(text, static_cast<int64_t>(std::min(end + 1, content.size())));
    }
    begin = end + 1;
  }
}

// How many bytes of `text` the next piece takes: about an equal share of what is left.
size_t piece_bytes(std::string_view text, size_t limit) {
  if (text.size() <= limit) return text.size();
  const size_t pieces = (text.size() + limit - 1) / limit;
  const size_t share = (text.size() + pieces - 1) / pieces;
  for (const std::string_view separator : {"\n\n", "\n", " "}) {
    const size_t cut = text.rfind(separator, share - separator.size());
    if (cut != std::string_view::npos && cut + separator.size() > share / 2) return cut + separator.size();
  }
  size_t cut = share;  // not inside a UTF-8 character, if it is UTF-8
  while (cut > 1 && share - cut < 3 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) cut--;
  return cut;
}

void read_text(std::string_view content, size_t limit, const DocumentVisitor& visit) {
  int64_t done = 0;
  do {
    const size_t bytes = piece_bytes(content, limit);
    done += static_cast<int64_t>(bytes);
    visit(content.substr(0, bytes), done);
    content.remove_prefix(bytes);
  } while (!content.empty());
}

}  // namespace

void read_documents(const fs::path& path, int64_t text_document_bytes, const DocumentVisitor& visit) {
  const fs::path extension = path.extension();
  if (extension != ".jsonl" && extension != ".txt") {
    throw Error(ExitCode::data, fmt::format("{} is neither .jsonl nor .txt", path.string()),
                "give plain text as .txt, or one JSON object per line with a \"text\" field as .jsonl");
  }
  const MappedFile file(path);  // pages come in as they are read
  const std::string_view content(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  if (extension == ".jsonl") return read_jsonl(path, content, visit);
  read_text(content, text_document_bytes > 0 ? static_cast<size_t>(text_document_bytes) : content.size(),
            visit);
}

}  // namespace kiln::data
