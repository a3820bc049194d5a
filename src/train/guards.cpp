#include "src/train/guards.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "src/core/error.h"

namespace kiln::train {

OutlierWindow::OutlierWindow(double z, int64_t window) : z_(z), window_(static_cast<size_t>(window)) {
  require(z == 0 || window >= 2, "a window of outliers needs two values");
  if (z_ > 0) values_.reserve(window_);
}

OutlierWindow::Moments OutlierWindow::moments() const {
  const auto n = static_cast<double>(values_.size());
  double sum = 0, squares = 0;
  for (const double x : values_) sum += x;
  const double mean = sum / n;
  for (const double x : values_) squares += (x - mean) * (x - mean);
  constexpr double kLeast = 1e-4;      // of the mean: our choice
  constexpr double kSmallest = 1e-12;  // of values that are all zero
  return {mean, std::max({std::sqrt(squares / n), kLeast * std::abs(mean), kSmallest})};
}

double OutlierWindow::deviations(double x) const {
  if (!filled()) return std::numeric_limits<double>::quiet_NaN();
  const Moments m = moments();
  return (x - m.mean) / m.deviation;
}

bool OutlierWindow::add(double x) {
  if (z_ == 0) return false;
  if (!std::isfinite(x)) return filled();
  if (!filled()) {
    values_.push_back(x);
    return false;
  }
  const Moments m = moments();
  const double bound = m.mean + z_ * m.deviation;
  const bool outlier = x > bound;
  values_.erase(values_.begin());
  values_.push_back(outlier ? bound : x);
  return outlier;
}

void OutlierWindow::restore(std::vector<double> values) {
  require(values.size() <= window_ || z_ == 0, "a window is restored with more values than it holds");
  values_ = std::move(values);
  if (z_ > 0) values_.reserve(window_);
}

}  // namespace kiln::train
