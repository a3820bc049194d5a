// Preloaded into kiln by kill_resume.py: the process kills itself in the KILL_AT_FILE_CALL-th file operation on a path
// that contains KILL_BELOW. Writes are cut in half first, as a power failure would.
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

std::atomic<long> calls{0};
bool watched_descriptor[1024] = {};

bool below(const char* path) {
  const char* part = std::getenv("KILL_BELOW");
  return part && path && std::strstr(path, part);
}

bool is_watched(int fd) { return fd >= 0 && fd < 1024 && watched_descriptor[fd]; }

// True when this call is the one to die in.
bool last_call() {
  static const long limit = std::getenv("KILL_AT_FILE_CALL") ? std::atol(std::getenv("KILL_AT_FILE_CALL")) : 0;
  return ++calls == limit;
}

[[noreturn]] void die() {
  raise(SIGKILL);
  std::abort();
}

template <class F>
F next(const char* name) {
  return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}

int watch(const char* path, int flags, int fd) {
  if (fd >= 0 && fd < 1024) watched_descriptor[fd] = below(path) && (flags & (O_WRONLY | O_RDWR | O_CREAT));
  return fd;
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const auto mode = static_cast<mode_t>(flags & O_CREAT ? va_arg(arguments, int) : 0);
  va_end(arguments);
  if (below(path) && (flags & O_CREAT) && last_call()) die();
  return watch(path, flags, next<int (*)(const char*, int, mode_t)>("open")(path, flags, mode));
}

int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const auto mode = static_cast<mode_t>(flags & O_CREAT ? va_arg(arguments, int) : 0);
  va_end(arguments);
  if (below(path) && (flags & O_CREAT) && last_call()) die();
  return watch(path, flags, next<int (*)(const char*, int, mode_t)>("open64")(path, flags, mode));
}

ssize_t write(int fd, const void* data, size_t size) {
  const auto real = next<ssize_t (*)(int, const void*, size_t)>("write");
  if (is_watched(fd) && last_call()) {
    if (real(fd, data, size / 2) < 0) die();
    die();
  }
  return real(fd, data, size);
}

ssize_t writev(int fd, const iovec* parts, int count) {
  if (is_watched(fd) && last_call()) {
    if (count > 0 && ::write(fd, parts[0].iov_base, parts[0].iov_len / 2) < 0) die();
    die();
  }
  return next<ssize_t (*)(int, const iovec*, int)>("writev")(fd, parts, count);
}

int fsync(int fd) {
  if (is_watched(fd) && last_call()) die();
  return next<int (*)(int)>("fsync")(fd);
}

int rename(const char* from, const char* to) {
  if (below(from) && last_call()) die();
  return next<int (*)(const char*, const char*)>("rename")(from, to);
}

int unlinkat(int folder, const char* path, int flags) {
  // std::filesystem::remove_all deletes by names relative to an open folder, so every call counts.
  if (last_call()) die();
  return next<int (*)(int, const char*, int)>("unlinkat")(folder, path, flags);
}

}  // extern "C"
