#include "data/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "src/core/error.h"
#include "src/core/file.h"

namespace kiln::data {
namespace {

constexpr size_t kBufferBytes = 1 << 18;

}  // namespace

AppendFile::AppendFile(std::filesystem::path path, int64_t keep) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail("create");
  const off_t there = ::lseek(descriptor_, 0, SEEK_END);
  const bool shorter = there < keep;
  const bool cut = !shorter && (there == keep || ::ftruncate(descriptor_, keep) == 0) &&
                   ::lseek(descriptor_, keep, SEEK_SET) == keep;
  if (cut) return;
  const int code = errno;
  ::close(std::exchange(descriptor_, -1));
  if (shorter) {
    throw Error(
        ExitCode::data,
        fmt::format("{} has {} bytes, less than the {} that were written to it", path_.string(), there, keep),
        "start anew with --overwrite");
  }
  errno = code;
  fail("cut");
}

AppendFile::~AppendFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void AppendFile::append(const void* data, size_t bytes) {
  buffer_.append(static_cast<const char*>(data), bytes);
  if (buffer_.size() >= kBufferBytes) flush();
}

void AppendFile::flush() {
  if (!write_all(descriptor_, buffer_.data(), buffer_.size())) fail("write");
  buffer_.clear();
}

void AppendFile::sync() {
  flush();
  if (::fsync(descriptor_) != 0) fail("sync");
}

void AppendFile::write_front(const void* data, size_t bytes) {
  flush();
  const ssize_t written = ::pwrite(descriptor_, data, bytes, 0);
  if (written != static_cast<ssize_t>(bytes)) fail("write");
}

void AppendFile::fail(const char* what) const {
  const int code = errno;
  throw Error(ExitCode::data, fmt::format("cannot {} {}: {}", what, path_.string(), std::strerror(code)),
              file_error_hint(code));
}

}  // namespace kiln::data
