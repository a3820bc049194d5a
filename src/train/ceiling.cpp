#include "src/train/ceiling.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
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

double Ceiling::share(double flops, double seconds) {
  const double rate = flops * 1e-9 / seconds;
  if (rate <= gflops_) return rate / gflops_;
  const double before = std::exchange(gflops_, rate);
  if (rate > 1.05 * told_) {
    tell_(fmt::format(
        "a step ran at {:.0f} Gflop/s, faster than the {:.0f} that MFU was measured against (was the machine "
        "busy then?): MFU is a fraction of {:.0f} from here on",
        rate, before, rate));
    told_ = rate;
  }
  return 1;
}

}  // namespace kiln::train
