#include <algorithm>
#include <chrono>
#include <utility>

#include "kernels/gemm_peak.h"
#include "kernels/table.h"
#include "src/core/shape.h"
#include "src/device/plan.h"

namespace kiln::kernels {
namespace {

// Not zeros: processors may draw less power, and so clock higher, on them.
void fill(float* x, int64_t count) {
  for (int64_t i = 0; i < count; i++) x[i] = static_cast<float>(i % 64) - 31.5f;
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

GemmPeakShape gemm_peak_shape(const Device& device) {
  // Deep products with a narrow result: panels and tiles stay in the second-level cache. Four tiles a thread.
  return {.rows = 512 * device.threads, .N = 384, .K = 1536};
}

double measure_gemm_peak(Context& context, double seconds) {
  const auto [rows, N, K] = gemm_peak_shape(context.device);
  const KernelTable& kernels = table(context.device.kind, context.device.isa, DType::f32);
  const LinearForward shape{nullptr, nullptr, nullptr, nullptr, rows, N, K, N, DType::f32};
  const size_t scratch_bytes = kernels.linear_forward_workspace_bytes(shape, context.device);
  // In an arena, and so one mapping that is gone afterwards.
  Plan plan;
  const auto add = [&](const char* name, size_t bytes) { return plan.add(name, Category::workspace, bytes); };
  const BufferId in = add("in", static_cast<size_t>(rows * K) * sizeof(float)),
                 weights = add("weights", static_cast<size_t>(N * K) * sizeof(float)),
                 out = add("out", static_cast<size_t>(rows * N) * sizeof(float)),
                 packed = add("packed", packed_weight_bytes(N, K, DType::f32, context.device, false)),
                 scratch = add("scratch", scratch_bytes);
  const Arena arena(plan, ArenaMode::slab, context.device);
  fill(arena.at<float>(in), rows * K);
  fill(arena.at<float>(weights), N * K);
  const uint64_t version = 1;
  PackedWeight weight{.weight = arena.at<float>(weights),
                      .version = &version,
                      .storage = arena.at<void>(packed),
                      .N = N,
                      .K = K};
  const LinearForward p{
      arena.at<float>(out), arena.at<float>(in), &weight, nullptr, rows, N, K, N, DType::f32};
  // On the context itself, so that what libraries allocate at their first call is there before a run begins.
  const Workspace kept = std::exchange(context.workspace, Workspace(arena.at<void>(scratch), scratch_bytes));
  linear_forward(context, p);

  double best = 0;
  const double end = seconds_now() + seconds;
  do {
    const double begin = seconds_now();
    linear_forward(context, p);
    best = std::max(best, linear_forward_flops(p) * 1e-9 / (seconds_now() - begin));
  } while (seconds_now() < end);
  context.workspace = kept;
  return best;
}

}  // namespace kiln::kernels
