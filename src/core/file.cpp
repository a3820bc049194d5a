#include "src/core/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "src/core/error.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const char* what, const fs::path& path) {
  const int code = errno;
  throw Error(ExitCode::data, fmt::format("cannot {} {}: {}", what, path.string(), std::strerror(code)),
              file_error_hint(code));
}

// Closes on every way out.
struct Descriptor {
  int fd;
  explicit Descriptor(int f) : fd(f) {}
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
};

}  // namespace

std::string file_error_hint(int code) {
  switch (code) {
    case ENOSPC:
    case EDQUOT:
      return "free some space on that disk, or write to another one";
    case EFBIG:
      return "raise the limit on file sizes (ulimit -f), or write to another file system";
    case EIO:
      return "the disk reports an error: look at the system's log, and write to another disk";
    case EACCES:
    case EPERM:
    case EROFS:
      return "check the permissions of the file and of its folder";
    case ENOENT:
      return "check the spelling; relative paths start at the current directory";
    default:
      return "";
  }
}

bool write_all(int descriptor, const void* data, size_t bytes) {
  const char* p = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::write(descriptor, p, std::min(bytes, size_t{1} << 30));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    p += n;
    bytes -= static_cast<size_t>(n);
  }
  return true;
}

void read_pieces(const fs::path& path, FunctionRef<void(std::string_view)> visit) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd < 0) fail("open", path);
  char buffer[1 << 15];
  for (;;) {
    const ssize_t n = ::read(file.fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("read", path);
    if (n == 0) return;
    visit(std::string_view(buffer, static_cast<size_t>(n)));
  }
}

std::string read_file(const fs::path& path) {
  std::string content;
  read_pieces(path, [&](std::string_view piece) { content += piece; });
  return content;
}

namespace {

void write_and_sync(const fs::path& path, std::string_view content) {
  Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (file.fd < 0) fail("create", path);
  if (!write_all(file.fd, content.data(), content.size())) fail("write", path);
  if (::fsync(file.fd) != 0) fail("sync", path);
}

}  // namespace

void write_file_atomically(const fs::path& path, std::string_view content) {
  const fs::path temporary = path.string() + ".tmp";
  try {
    write_and_sync(temporary, content);
    if (::rename(temporary.c_str(), path.c_str()) != 0) fail("rename a temporary file to", path);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_directory(path.parent_path());
}

void sync_file(const fs::path& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd < 0) fail("open", path);
  if (::fsync(file.fd) != 0) fail("sync", path);
}

void sync_directory(const fs::path& path) {
  sync_file(path.empty() ? fs::path(".") : path);
}

MappedFile::MappedFile(const fs::path& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd < 0) fail("open", path);
  struct stat info {};
  if (::fstat(file.fd, &info) != 0) fail("stat", path);
  if (!S_ISREG(info.st_mode)) {
    throw Error(ExitCode::data, fmt::format("{} is not a regular file", path.string()),
                "give the path of a file");
  }
  size_ = static_cast<size_t>(info.st_size);
  if (size_ == 0) return;
  data_ = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.fd, 0);
  if (data_ == MAP_FAILED) {
    data_ = nullptr;
    fail("map", path);
  }
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(data_, size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace kiln
