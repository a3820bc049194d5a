// cudaMemcpy and cudaMemset as operations: bounds, kinds of pointers, and order against kernels of other streams.
#pragma once

#include <cstddef>

#include "tests/cuda_emulator/streams.h"

namespace kiln::emulator {

enum class CopyKind : int {
  kHostToHost = 0,
  kHostToDevice = 1,
  kDeviceToHost = 2,
  kDeviceToDevice = 3,
  kAny = 4
};

// Puts the copy into the stream; a finding where a pointer is not of the kind that is said, or what is copied reaches
// beyond an allocation. `returns_early`: the host goes on before the copy is done, as far as CUDA allows: copies from
// pageable memory take it as it is now, those to pageable memory have happened at return.
void add_copy(Stream* stream, void* to, const void* from, size_t bytes, CopyKind kind, bool returns_early);
void add_fill(Stream* stream, void* to, int value, size_t bytes);

// Page-locked host memory.
void* allocate_pinned(size_t bytes);
bool release_pinned(void* memory);
void register_pinned(void* memory, size_t bytes);
bool unregister_pinned(void* memory);
// A finding if an operation uses this piece of it that the host has not waited for. `call` is who asks.
void require_unused(const void* memory, const char* call);
bool is_pinned(const void* memory, size_t bytes);
size_t pinned_count();  // allocations that have not been freed

}  // namespace kiln::emulator
