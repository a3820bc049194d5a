#include "tests/kernels/large_allocations.h"

#include <dlfcn.h>
#include <errno.h>
#include <sys/mman.h>

#include <atomic>

namespace {

std::atomic<bool> watching{false};
std::atomic<size_t> largest_request{0};

}  // namespace

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

namespace {

void note(size_t bytes) {
  if (!watching.load(std::memory_order_relaxed)) return;
  size_t seen = largest_request.load();
  while (bytes > seen && !largest_request.compare_exchange_weak(seen, bytes)) {
  }
}

}  // namespace

// glibc's own names of its allocator: dlsym could not be used here, for it allocates.
extern "C" {
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* old, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);

void* malloc(size_t bytes) {
  note(bytes);
  return __libc_malloc(bytes);
}
void* calloc(size_t count, size_t bytes) {
  note(count * bytes);
  return __libc_calloc(count, bytes);
}
void* realloc(void* old, size_t bytes) {
  note(bytes);
  return __libc_realloc(old, bytes);
}
void* memalign(size_t alignment, size_t bytes) {
  note(bytes);
  return __libc_memalign(alignment, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) {
  note(bytes);
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** result, size_t alignment, size_t bytes) {
  note(bytes);
  *result = __libc_memalign(alignment, bytes);
  return *result ? 0 : ENOMEM;
}
void* mmap(void* address, size_t bytes, int protection, int flags, int file, off_t offset) {
  note(bytes);
  static const auto next = reinterpret_cast<decltype(&mmap)>(dlsym(RTLD_NEXT, "mmap"));
  return next(address, bytes, protection, flags, file, offset);
}
}

namespace kiln::tests {
bool can_watch_allocations() {
  return true;
}
}  // namespace kiln::tests

#else

namespace kiln::tests {
bool can_watch_allocations() {
  return false;
}
}  // namespace kiln::tests

#endif

namespace kiln::tests {

AllocationWatch::AllocationWatch() {
  largest_request = 0;
  watching = true;
}
AllocationWatch::~AllocationWatch() {
  watching = false;
}
size_t AllocationWatch::largest() const {
  return largest_request;
}

}  // namespace kiln::tests
