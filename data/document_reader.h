// Documents out of text files, one at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>

namespace kiln::data {

// Called with the text of a document, valid during the call, and the number of bytes of the file read so far.
using DocumentVisitor = std::function<void(std::string_view text, int64_t bytes_read)>;

// Visits every document of a file, in order. *.jsonl: one JSON object a line, whose "text" is the document;
// blank lines are skipped. *.txt: the file is a document; when it is longer than `text_document_bytes` (0: no
// limit) it is cut into pieces of at most that many bytes and about equal size, at a blank line where there
// is one near, else at a line's end, else between words. Any other name is refused. Throws
// Error(ExitCode::data) with file, line and byte offset.
void read_documents(const std::filesystem::path& path, int64_t text_document_bytes,
                    const DocumentVisitor& visit);

}  // namespace kiln::data
