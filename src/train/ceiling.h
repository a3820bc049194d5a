// What MFU is a fraction of: the rate of a large matrix product, measured on this machine.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "src/core/log.h"
#include "src/device/context.h"

namespace kiln::train {

// Gflop/s: the best of several short trials with pauses between them, so that somebody else's work on the machine must
// last to spoil them all. Takes some 0.4 s and memory of its own (gemm_peak.h says of what shape).
double measure_ceiling(Context& context);

class Ceiling {
 public:
  using Tell = std::function<void(const std::string&)>;
  explicit Ceiling(double gflops, Tell tell = log_info)
      : gflops_(gflops), tell_(std::move(tell)) {}

  // The fraction of the ceiling that `flops` in `seconds` are, 1 at most: work that beats the ceiling shows that it was
  // measured too low, and becomes the ceiling. Tells of it at once, and again after each further 5 percent.
  double share(double flops, double seconds);

  double gflops() const { return gflops_; }

 private:
  double gflops_;
  double told_ = 0;  // the last rate that was told of
  Tell tell_;
};

}  // namespace kiln::train
