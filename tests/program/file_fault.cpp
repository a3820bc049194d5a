// Preloaded into kiln by kill_resume.py and disk_faults.py: counts the file operations (opening for writing,
// write, fsync, rename, unlink) on paths that contain FAULT_BELOW; those numbered FAULT_AT and the
// FAULT_COUNT - 1 after it fail as FAULT says: "kill" (the process dies in it), "ENOSPC" or "EIO". A failing
// write is half done first.
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

std::atomic<long> calls{0};
bool watched_descriptor[1024] = {};

const char* setting(const char* name) {
  const char* text = std::getenv(name);
  return text ? text : "";
}

bool below(const char* path) {
  const char* part = setting("FAULT_BELOW");
  return *part && path && std::strstr(path, part);
}

bool is_watched(int fd) {
  return fd >= 0 && fd < 1024 && watched_descriptor[fd];
}

// True when this call is one that shall fail.
bool faulty() {
  static const long first = std::atol(setting("FAULT_AT")), count = std::atol(setting("FAULT_COUNT"));
  const long call = ++calls;
  return first > 0 && call >= first && call < first + (count > 0 ? count : 1);
}

int fail() {
  if (std::strcmp(setting("FAULT"), "kill") == 0) {
    raise(SIGKILL);
    std::abort();
  }
  errno = std::strcmp(setting("FAULT"), "EIO") == 0 ? EIO : ENOSPC;
  return -1;
}

template <class F>
F next(const char* name) {
  return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}

int open_as(const char* name, const char* path, int flags, mode_t mode) {
  if (below(path) && (flags & O_CREAT) && faulty()) return fail();
  const int fd = next<int (*)(const char*, int, mode_t)>(name)(path, flags, mode);
  if (fd >= 0 && fd < 1024) watched_descriptor[fd] = below(path) && (flags & (O_WRONLY | O_RDWR | O_CREAT));
  return fd;
}

// Half of it arrives, as when the power or the space ends in the middle.
template <class HalfWrite>
ssize_t half(HalfWrite half_write) {
  if (half_write() < 0) std::abort();
  return fail();
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const auto mode = static_cast<mode_t>(flags & O_CREAT ? va_arg(arguments, int) : 0);
  va_end(arguments);
  return open_as("open", path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const auto mode = static_cast<mode_t>(flags & O_CREAT ? va_arg(arguments, int) : 0);
  va_end(arguments);
  return open_as("open64", path, flags, mode);
}

ssize_t write(int fd, const void* data, size_t size) {
  const auto real = next<ssize_t (*)(int, const void*, size_t)>("write");
  return is_watched(fd) && faulty() ? half([&] { return real(fd, data, size / 2); }) : real(fd, data, size);
}

ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
  const auto real = next<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
  return is_watched(fd) && faulty() ? half([&] { return real(fd, data, size / 2, offset); })
                                    : real(fd, data, size, offset);
}

ssize_t writev(int fd, const iovec* parts, int count) {
  const auto real_write = next<ssize_t (*)(int, const void*, size_t)>("write");
  return is_watched(fd) && count > 0 && faulty()
             ? half([&] { return real_write(fd, parts[0].iov_base, parts[0].iov_len / 2); })
             : next<ssize_t (*)(int, const iovec*, int)>("writev")(fd, parts, count);
}

int fsync(int fd) {
  return is_watched(fd) && faulty() ? fail() : next<int (*)(int)>("fsync")(fd);
}

int rename(const char* from, const char* to) {
  return below(from) && faulty() ? fail() : next<int (*)(const char*, const char*)>("rename")(from, to);
}

int mkdir(const char* path, mode_t mode) {
  return below(path) && faulty() ? fail() : next<int (*)(const char*, mode_t)>("mkdir")(path, mode);
}

int unlinkat(int folder, const char* path, int flags) {
  // std::filesystem::remove_all deletes by names relative to an open folder, so every call counts.
  return *setting("FAULT_BELOW") && faulty()
             ? fail()
             : next<int (*)(int, const char*, int)>("unlinkat")(folder, path, flags);
}

}  // extern "C"
