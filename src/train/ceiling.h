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

// Of a whole run: measured once, when it begins, and the same after every resume, so that all of its MFU are fractions of
// one number.
class Ceiling {
 public:
  using Tell = std::function<void(const std::string&)>;

  // `begun`: what a run that goes on began with (0: nothing); where that is more than 5 percent off what is `measured`
  // now, it is told.
  Ceiling(double measured, double begun, Tell tell = log_info);

  // The fraction of the ceiling that `flops` in `seconds` are. More than 1 where the ceiling was measured too low, of
  // which is told the first time.
  double share(double flops, double seconds);

  double gflops() const { return gflops_; }
  bool is_begun() const { return is_begun_; }  // not measured now

 private:
  double gflops_;
  bool is_begun_, told_ = false;
  Tell tell_;
};

}  // namespace kiln::train
