// The middle of some numbers.
#pragma once

#include <algorithm>
#include <vector>

#include "src/core/error.h"

namespace kiln::train {

// The mean of the two in the middle where they are even in number. At least one, none of them NaN.
inline double median_of(std::vector<double> values) {
  require(!values.empty(), "a median of nothing");
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return values[(n - 1) / 2] + (values[n / 2] - values[(n - 1) / 2]) / 2;
}

}  // namespace kiln::train
