// Launching kernels: the limits that CUDA sets, and the run of a grid, block after block.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/cuda_emulator/streams.h"
#include "tests/cuda_emulator/warp.h"

namespace kiln::emulator {

// What the emulated device allows: compute capability 8.0.
namespace limits {
constexpr uint32_t kThreadsPerBlock = 1024;
constexpr uint32_t kBlockZ = 64;
constexpr uint32_t kGridX = 0x7fffffff, kGridYz = 65535;
constexpr uint32_t kSharedPerBlock = 48 * 1024;
constexpr uint32_t kSharedPerBlockOptIn = 163 * 1024;
constexpr uint32_t kSharedPerMultiprocessor = 164 * 1024;
constexpr uint32_t kRegistersPerBlock = 65536;
constexpr int kMajor = 8, kMinor = 0;
constexpr int kMultiprocessors = 4;
}  // namespace limits

enum class LaunchProblem { kNone, kConfiguration, kResources, kShared };
// Why the kernel cannot be launched like that, as an error and in words.
LaunchProblem launch_problem(const Kernel& kernel, const Dim3& grid, const Dim3& block, size_t dynamic_shared,
                             size_t shared_limit, std::string& why);

// Puts the kernel into the stream; the parameters are copied now.
void add_launch(Stream* stream, const Kernel& kernel, const Dim3& grid, const Dim3& block,
                size_t dynamic_shared, void** arguments);

// Executed since the process began.
struct Counts {
  uint64_t thread_instructions = 0, warp_instructions = 0, blocks = 0;
  double seconds = 0;  // of processor time, inside of kernels
};
const Counts& counts();

}  // namespace kiln::emulator
