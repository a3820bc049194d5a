// Blocks that fit a multiprocessor at once, by NVIDIA's occupancy calculator. Reads lines of
//   architecture threads registers static-shared dynamic-shared (80 256 40 0 49152)
// and answers each with blocks and the share of the multiprocessor's threads that they are, in percent.
#include <cuda_occupancy.h>

#include <cstdio>

namespace {

struct Multiprocessor {
  int architecture, count, threads;
  size_t shared, shared_of_block;  // bytes
};

// CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
constexpr Multiprocessor kKnown[] = {
    {80, 108, 2048, 164 << 10, 163 << 10}, {90, 132, 2048, 228 << 10, 227 << 10}, {100, 148, 2048, 228 << 10, 227 << 10}};

const Multiprocessor* find(int architecture) {
  for (const Multiprocessor& known : kKnown) {
    if (known.architecture == architecture) return &known;
  }
  return nullptr;
}

int blocks(const Multiprocessor& m, int threads, int registers, size_t fixed, size_t dynamic) {
  cudaOccDeviceProp device;
  device.computeMajor = m.architecture / 10;
  device.computeMinor = m.architecture % 10;
  device.maxThreadsPerBlock = 1024;
  device.maxThreadsPerMultiprocessor = m.threads;
  device.regsPerBlock = device.regsPerMultiprocessor = 65536;
  device.warpSize = 32;
  device.sharedMemPerBlock = 48 << 10;
  device.sharedMemPerMultiprocessor = m.shared;
  device.sharedMemPerBlockOptin = m.shared_of_block;
  device.reservedSharedMemPerBlock = 1 << 10;
  device.numSms = m.count;
  cudaOccFuncAttributes kernel;
  kernel.maxThreadsPerBlock = 1024;
  kernel.numRegs = registers;
  kernel.sharedSizeBytes = fixed;
  kernel.maxDynamicSharedSizeBytes = m.shared_of_block - fixed;
  kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
  kernel.numBlockBarriers = 1;
  const cudaOccDeviceState state;
  cudaOccResult result;
  const cudaOccError error = cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, threads, dynamic);
  return error == CUDA_OCC_SUCCESS ? result.activeBlocksPerMultiprocessor : 0;
}

}  // namespace

int main() {
  int architecture, threads, registers;
  size_t fixed, dynamic;
  while (std::scanf("%d %d %d %zu %zu", &architecture, &threads, &registers, &fixed, &dynamic) == 5) {
    const Multiprocessor* m = find(architecture);
    if (m == nullptr) {
      std::fprintf(stderr, "occupancy: nothing is known of architecture %d\n", architecture);
      return 1;
    }
    const int together = blocks(*m, threads, registers, fixed, dynamic);
    std::printf("%d %d\n", together, 100 * together * threads / m->threads);
  }
  return 0;
}
