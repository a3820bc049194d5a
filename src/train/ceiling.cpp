#include "src/train/ceiling.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>
#include <utility>

#include "kernels/linear.h"

namespace kiln::train {

double measure_ceiling(Context& context) {
  constexpr int kTrials = 4;
  constexpr double kSeconds = 0.08;
  constexpr std::chrono::milliseconds kPause(25);  // several slices of a scheduler
  double best = 0;
  for (int trial = 0; trial < kTrials; trial++) {
    if (trial > 0) std::this_thread::sleep_for(kPause);
    best = std::max(best, kernels::measure_gemm_peak(context, kSeconds));
  }
  return best;
}

Ceiling::Ceiling(double measured, double begun, Tell tell)
    : gflops_(begun > 0 ? begun : measured), is_begun_(begun > 0), tell_(std::move(tell)) {
  if (std::abs(measured - gflops_) <= 0.05 * gflops_) return;
  tell_(fmt::format(
      "a large product runs at {:.1f} Gflop/s now, at {:.1f} when the run began: MFU stays a fraction of the "
      "latter",
      measured, gflops_));
}

double Ceiling::share(double flops, double seconds) {
  const double rate = flops * 1e-9 / seconds;
  if (rate > gflops_ && !std::exchange(told_, true)) {
    tell_(
        fmt::format("a step ran at {:.1f} Gflop/s, faster than the {:.1f} that MFU is a fraction of (was the "
                    "machine busy "
                    "when that was measured?): MFU of this run may exceed 100 %",
                    rate, gflops_));
  }
  return rate / gflops_;
}

}  // namespace kiln::train
