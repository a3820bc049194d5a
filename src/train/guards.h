// Steps whose loss or gradient norm is far out of the ordinary.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace kiln::train {

// The last values of one quantity, and whether a new one lies more than `z` standard deviations above their mean.
//
// An outlier enters the window as the bound that it broke, mean + z deviations. As it is, one spike would widen the
// window so far that the next ones pass; kept out, a lasting change (other data, another learning rate) would be
// refused for ever. This way the bound moves by a bounded factor a step: spikes stay outliers, and a change that lasts
// is accepted after some tens of steps. The deviation counts as a ten-thousandth of the mean at least: values that are all
// but equal would make an outlier of every other one, and a bound on top of them could never move.
class OutlierWindow {
 public:
  OutlierWindow(double z, int64_t window);  // z = 0: nothing is an outlier, nothing is kept; else window >= 2

  // Standard deviations that `x` lies above the mean. NaN until the window has filled.
  double deviations(double x) const;

  // Judges `x`, then takes it in. A value that is not finite is an outlier once the window has filled and never enters.
  bool add(double x);

  // All of its state, oldest first: what a window was restored with goes on bit for bit.
  const std::vector<double>& values() const { return values_; }
  void restore(std::vector<double> values);

 private:
  struct Moments {
    double mean, deviation;  // deviation > 0
  };
  bool filled() const { return values_.size() == window_ && z_ > 0; }
  Moments moments() const;

  double z_;
  size_t window_;
  std::vector<double> values_;
};

struct Guards {
  OutlierWindow loss, gradient_norm;
};

}  // namespace kiln::train
