// Documents out of text files and standard input, in memory that does not grow with their size.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace kiln::data {

inline constexpr const char* kStandardInput = "-";

struct ReadOptions {
  std::vector<std::string> inputs;  // paths, or "-"; read in this order
  // "auto": by the names, *.jsonl (one JSON object a line, whose "text" is the document; blank lines are
  // skipped) or *.txt (the file is a document); "jsonl" or "txt": all inputs are this, whatever their names.
  std::string format = "auto";
  // A .txt longer than this is cut into pieces of at most this many bytes, and usually more than half as
  // many: at a blank line where there is one, else at a line's end, else between words. 0: never; it is then
  // read whole.
  int64_t text_document_bytes = 50'000;
  // No piece of the only input that is not empty, a .txt, crosses this byte; 0: every byte may be inside a piece.
  int64_t text_cut = 0;
  // Longer lines of JSON, and longer texts that are not cut, are refused: a document has to fit into memory.
  int64_t longest_record_bytes = int64_t{1} << 30;
};

struct ReadPosition {
  int64_t input = 0;   // in ReadOptions::inputs
  int64_t offset = 0;  // bytes of that input that are done
  int64_t line = 0;    // lines of it that are done (JSONL)
  bool operator==(const ReadPosition&) const = default;
};

// What a document is made of: a line of JSON or a piece of text, as it stands in the file.
struct Record {
  ReadPosition position;  // where it begins
  std::string bytes;
};

// A sentence for each input file that begins with a byte order mark: what is read is bytes, which are to be UTF-8.
std::vector<std::string> byte_order_marks(const std::vector<std::string>& inputs);

// Throws Error(ExitCode::usage) for a format that is none or that a name does not tell, and
// Error(ExitCode::data), with the path, for an input that cannot be read.
class DocumentReader {
 public:
  explicit DocumentReader(ReadOptions options, ReadPosition start = {});
  ~DocumentReader();
  DocumentReader(DocumentReader&&) noexcept;

  // Appends records until they have `bytes` bytes together; false when there are none left. Fails with file,
  // line and offset when a record is too long.
  bool read(int64_t bytes, std::vector<Record>& records);

  // A record that was read before, again; not from a stream.
  Record record_at(const ReadPosition& position, int64_t bytes) const;

  // Of the first byte that is not in a record yet.
  const ReadPosition& position() const;
  // Bytes of all inputs up to that position; and of all inputs, -1 when one is a stream, whose end nobody
  // knows.
  int64_t bytes_done() const;
  int64_t bytes_total() const;

  // The document. A line that is no JSON object with a string "text" fails with file, line, column and byte
  // offset. May be called from several threads at once.
  std::string text_of(Record record) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kiln::data
