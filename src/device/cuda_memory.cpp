#include <cuda_runtime_api.h>

#include <memory>

#include "src/device/cuda.h"
#include "src/device/cuda_check.h"

namespace kiln {

void* cuda_allocate(size_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(error, "allocating device memory");
  return memory;
}

// Streams of Kiln do not wait for the default stream, so the host does.
void* cuda_allocate_zeroed(size_t bytes) {
  std::unique_ptr<void, decltype(&cuda_release)> memory(cuda_allocate(bytes), &cuda_release);
  if (!memory) return nullptr;
  check(cudaMemsetAsync(memory.get(), 0, bytes, nullptr), "clearing device memory");
  check(cudaStreamSynchronize(nullptr), "clearing device memory");
  return memory.release();
}

// In destructors an error has nowhere to go: a later call reports what the driver still knows of it.
void cuda_release(void* memory) noexcept {
  cudaFree(memory);
}

size_t cuda_memory_left() {
  size_t left = 0, total = 0;
  check(cudaMemGetInfo(&left, &total), "asking for the free memory of the GPU");
  return left;
}

}  // namespace kiln
