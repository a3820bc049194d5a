#include "tests/cuda_emulator/launch.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <utility>

namespace kiln::emulator {

namespace {

Counts& mutable_counts() {
  static Counts counted;
  return counted;
}

double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void run_grid(const Operation& operation, Launch launch) {
  static auto* block = new Block;  // its memory is used again by the next kernel
  const History history(operation);
  const uint32_t ordered_end = history.ordered_end();
  launch.first_segment = history.begin();
  launch.ordered_end = std::min(ordered_end, launch.first_segment);
  launch.earlier = &history;
  const double start = processor_seconds();
  const uint64_t threads_before = block->thread_instructions, warps_before = block->warp_instructions;
  block->begin_launch(launch);
  const uint64_t blocks = launch.grid.count();
  for (uint64_t number = 0; number < blocks; ++number) block->run(number);
  Counts& counted = mutable_counts();
  counted.seconds += processor_seconds() - start;
  counted.thread_instructions += block->thread_instructions - threads_before;
  counted.warp_instructions += block->warp_instructions - warps_before;
  counted.blocks += blocks;
}

}  // namespace

LaunchProblem launch_problem(const Kernel& kernel, const Dim3& grid, const Dim3& block, size_t dynamic_shared,
                             size_t shared_limit, std::string& why) {
  const auto text = [](const Dim3& d) { return fmt::format("({},{},{})", d.x, d.y, d.z); };
  const uint64_t threads = block.count();
  if (threads == 0 || block.x > limits::kThreadsPerBlock || block.y > limits::kThreadsPerBlock ||
      block.z > limits::kBlockZ || threads > limits::kThreadsPerBlock) {
    why =
        fmt::format("a block of {} threads; the limit is 1024 in all, 1024 in x and y, 64 in z", text(block));
    return LaunchProblem::kConfiguration;
  }
  if (grid.count() == 0 || grid.x > limits::kGridX || grid.y > limits::kGridYz || grid.z > limits::kGridYz) {
    why =
        fmt::format("a grid of {} blocks; the limit is 2147483647 in x, 65535 in y and z, and 1 is the least",
                    text(grid));
    return LaunchProblem::kConfiguration;
  }
  if (threads > kernel.max_threads) {
    why = fmt::format("{} threads a block, but __launch_bounds__ promise at most {}", threads,
                      kernel.max_threads);
    return LaunchProblem::kResources;
  }
  const size_t shared = kernel.static_shared_bytes + dynamic_shared;
  if (shared > std::max<size_t>(shared_limit, kernel.static_shared_bytes)) {
    why = fmt::format(
        "{} bytes of shared memory ({} static, {} dynamic); the limit is {} (48 KiB unless "
        "cudaFuncSetAttribute raises it)",
        shared, kernel.static_shared_bytes, dynamic_shared, shared_limit);
    return LaunchProblem::kShared;
  }
  return LaunchProblem::kNone;
}

void add_launch(Stream* stream, const Kernel& kernel, const Dim3& grid, const Dim3& block,
                size_t dynamic_shared, void** arguments) {
  Launch launch;
  launch.kernel = &kernel;
  launch.grid = grid;
  launch.block = block;
  launch.dynamic_shared = static_cast<uint32_t>(dynamic_shared);
  launch.parameters.resize(kernel.parameter_bytes);
  for (size_t i = 0; i < kernel.parameters.size(); ++i) {
    std::memcpy(launch.parameters.data() + kernel.parameters[i].offset, arguments[i],
                kernel.parameters[i].bytes);
  }
  Streams::instance().add(stream, fmt::format("kernel {}", kernel.shown_name),
                          [launch = std::move(launch)](const Operation& self) { run_grid(self, launch); });
}

const Counts& counts() {
  return mutable_counts();
}

}  // namespace kiln::emulator
