// Memory: device and pinned allocations, copies.
#include <fmt/format.h>

#include "tests/cuda_emulator/copies.h"
#include "tests/cuda_emulator/runtime.h"

using namespace kiln::emulator;

namespace {

Allocation* allocation_at(const void* pointer) {
  const uint64_t address = reinterpret_cast<uint64_t>(pointer);
  Allocation* found = DeviceMemory::instance().near(address);
  return found != nullptr && found->address == address ? found : nullptr;
}

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  if (const cudaError_t error = device_error(); error != cudaSuccess) return set_error(error);
  if (bytes == 0) {
    *pointer = nullptr;
    return cudaSuccess;
  }
  Allocation* made = DeviceMemory::instance().allocate(bytes);
  if (made == nullptr) return set_error(cudaErrorMemoryAllocation);
  *pointer = reinterpret_cast<void*>(made->address);
  return cudaSuccess;
}

// Waits for the device, as the real one does.
cudaError_t cudaFree(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  return guarded([&] {
    Streams::instance().wait_for_all();
    Allocation* found = allocation_at(pointer);
    if (found == nullptr || found->freed || found->internal) {
      throw Finding(fmt::format("cudaFree of what is no live allocation: {}",
                                DeviceMemory::instance().describe(reinterpret_cast<uint64_t>(pointer))));
    }
    DeviceMemory::instance().release(*found);
  });
}

cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
  *available = DeviceMemory::instance().free_bytes();
  *total = DeviceMemory::instance().total_bytes();
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned int) {
  if (const cudaError_t error = device_error(); error != cudaSuccess) return set_error(error);
  *pointer = allocate_pinned(bytes);
  return *pointer == nullptr ? set_error(cudaErrorMemoryAllocation) : cudaSuccess;
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  return cudaHostAlloc(pointer, bytes, 0);
}

// That the real one waits for what uses the memory is documented nowhere.
cudaError_t cudaFreeHost(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  return guarded([&] {
    require_unused(pointer, "cudaFreeHost");
    if (!release_pinned(pointer)) throw Finding("cudaFreeHost of what cudaHostAlloc did not give");
  });
}

cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned int) {
  if (is_pinned(pointer, bytes)) return set_error(cudaErrorHostMemoryAlreadyRegistered);
  register_pinned(pointer, bytes);
  return cudaSuccess;
}

cudaError_t cudaHostUnregister(void* pointer) {
  return guarded([&] {
    require_unused(pointer, "cudaHostUnregister");
    if (!unregister_pinned(pointer)) throw Finding("cudaHostUnregister of what is not registered");
  });
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return guarded([&] {
    add_copy(Streams::instance().default_stream(), to, from, bytes, static_cast<CopyKind>(kind), false);
  });
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return guarded([&] { add_copy(stream_of(stream), to, from, bytes, static_cast<CopyKind>(kind), true); });
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  return guarded([&] { add_fill(Streams::instance().default_stream(), to, value, bytes); });
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return guarded([&] { add_fill(stream_of(stream), to, value, bytes); });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  *attributes = {};
  if (DeviceMemory::instance().is_device(reinterpret_cast<uint64_t>(pointer))) {
    attributes->type = cudaMemoryTypeDevice;
    attributes->devicePointer = const_cast<void*>(pointer);
    return cudaSuccess;
  }
  attributes->type = is_pinned(pointer, 1) ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
  attributes->hostPointer = const_cast<void*>(pointer);
  return cudaSuccess;
}

}  // extern "C"
