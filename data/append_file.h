// A file that grows at its end, and what of it is on the disk for certain.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

namespace kiln::data {

// Throws Error(ExitCode::data) with the path and the system's reason.
class AppendFile {
 public:
  // Keeps the first `keep` bytes of a file that is there, and fails when it has fewer; creates one that is
  // not.
  AppendFile(std::filesystem::path path, int64_t keep);
  ~AppendFile();  // what was appended since the last sync() may be lost
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  void append(const void* data, size_t bytes);
  void sync();
  void write_front(const void* data, size_t bytes);  // over what stands there
  const std::filesystem::path& path() const { return path_; }

 private:
  void flush();
  [[noreturn]] void fail(const char* what) const;

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::string buffer_;
};

}  // namespace kiln::data
