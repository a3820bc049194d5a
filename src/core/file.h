// Files: whole-file reads, atomic writes, read-only mappings. Every failure throws Error(ExitCode::data) with
// the path and the system's reason.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "src/core/parallel.h"

namespace kiln {

std::string read_file(const std::filesystem::path& path);

// Calls `visit` with the content, piece after piece, each at most 32 KiB and valid during the call.
void read_pieces(const std::filesystem::path& path, FunctionRef<void(std::string_view piece)> visit);

// Writes under a temporary name in the same folder, syncs, renames, syncs the folder: after a crash the path
// holds either the old or the new content, never a mixture. After an error it holds the old content and
// nothing else is left.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

// Writes all of it to the descriptor, however often write() has to be called; false on failure, with errno.
bool write_all(int descriptor, const void* data, size_t bytes);

// What a person can do about an errno of file operations; empty where the reason says it all.
std::string file_error_hint(int code);

void sync_file(const std::filesystem::path& path);
void sync_directory(const std::filesystem::path& path);

// A read-only memory mapping of a whole file; move-only. An empty file maps to an empty span.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace kiln
