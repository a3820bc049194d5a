// Preloaded into kiln by memory_plan.py: writes one line to ALLOCATION_LOG for every allocation of 64 KiB or
// more (malloc family, anonymous mmap) and for every line of metrics.jsonl, so that the test sees what was
// allocated before the first step and what between steps.
#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr size_t kThreshold = 64 * 1024;

int log_descriptor() {
  static const int fd = [] {
    const char* path = std::getenv("ALLOCATION_LOG");
    return path ? ::open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
  }();
  return fd;
}

// snprintf into a stack buffer and write: nothing here may allocate. The caller's address says whose
// allocation it is.
void note(const char* what, size_t bytes, const void* caller) {
  Dl_info info{};
  const char* library = dladdr(caller, &info) && info.dli_fname ? std::strrchr(info.dli_fname, '/') : nullptr;
  char line[256];
  const int n = std::snprintf(line, sizeof line, "%s %zu %s\n", what, bytes, library ? library + 1 : "?");
  if (log_descriptor() >= 0 && n > 0 && ::write(log_descriptor(), line, static_cast<size_t>(n)) < 0)
    std::abort();
}

template <class F>
F next(const char* name) {
  return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t bytes) {
  if (bytes >= kThreshold) note("malloc", bytes, __builtin_return_address(0));
  return __libc_malloc(bytes);
}
void* calloc(size_t count, size_t size) {
  if (count * size >= kThreshold) note("calloc", count * size, __builtin_return_address(0));
  return __libc_calloc(count, size);
}
void* realloc(void* old, size_t bytes) {
  if (bytes >= kThreshold) note("realloc", bytes, __builtin_return_address(0));
  return __libc_realloc(old, bytes);
}
void* memalign(size_t alignment, size_t bytes) {
  if (bytes >= kThreshold) note("memalign", bytes, __builtin_return_address(0));
  return __libc_memalign(alignment, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) {
  if (bytes >= kThreshold) note("aligned_alloc", bytes, __builtin_return_address(0));
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** result, size_t alignment, size_t bytes) {
  if (bytes >= kThreshold) note("posix_memalign", bytes, __builtin_return_address(0));
  *result = __libc_memalign(alignment, bytes);
  return *result ? 0 : ENOMEM;
}
void* mmap(void* address, size_t bytes, int protection, int flags, int fd, off_t offset) noexcept {
  if (bytes >= kThreshold && (flags & MAP_ANONYMOUS)) note("mmap", bytes, __builtin_return_address(0));
  return next<void* (*)(void*, size_t, int, int, int, off_t)>("mmap")(address, bytes, protection, flags, fd,
                                                                      offset);
}

ssize_t pwrite(int fd, const void* data, size_t bytes, off_t offset) {
  if (::memmem(data, bytes, "\"gradient_norm\"", 15)) note("step", 0, nullptr);
  return next<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite")(fd, data, bytes, offset);
}

}  // extern "C"
