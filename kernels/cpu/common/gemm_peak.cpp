#include <algorithm>
#include <chrono>
#include <memory>
#include <new>
#include <utility>

#include "kernels/gemm_peak.h"
#include "kernels/table.h"
#include "src/core/shape.h"

namespace kiln::kernels {
namespace {

struct FreeAligned {
  void operator()(char* p) const { ::operator delete[](p, std::align_val_t{Plan::kAlignment}); }
};
std::unique_ptr<char[], FreeAligned> allocate(size_t bytes) {
  return std::unique_ptr<char[], FreeAligned>(new (std::align_val_t{Plan::kAlignment}) char[bytes]());
}
std::unique_ptr<char[], FreeAligned> allocate_floats(int64_t count) {
  auto memory = allocate(static_cast<size_t>(count) * sizeof(float));
  // Not zeros: processors may draw less power, and so clock higher, on them.
  for (int64_t i = 0; i < count; i++)
    reinterpret_cast<float*>(memory.get())[i] = static_cast<float>(i % 64) - 31.5f;
  return memory;
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
  const auto in = allocate_floats(rows * K), weights = allocate_floats(N * K),
             out = allocate_floats(rows * N);
  const auto storage =
      allocate(std::max<size_t>(1, packed_weight_bytes(N, K, DType::f32, context.device, false)));
  const uint64_t version = 1;
  PackedWeight weight{.weight = weights.get(), .version = &version, .storage = storage.get(), .N = N, .K = K};
  const LinearForward p{out.get(), in.get(), &weight, nullptr, rows, N, K, N, DType::f32};

  const KernelTable& kernels = table(context.device.kind, context.device.isa, DType::f32);
  const size_t scratch_bytes = kernels.linear_forward_workspace_bytes(p, context.device);
  const auto scratch = allocate(std::max<size_t>(1, scratch_bytes));
  // On the context itself, so that what libraries allocate at their first call is there before a run begins.
  const Workspace kept = std::exchange(context.workspace, Workspace(scratch.get(), scratch_bytes));
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
