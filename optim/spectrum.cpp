#include "optim/spectrum.h"

#include <algorithm>
#include <cmath>

#include "kernels/matrix.h"

namespace kiln::optim {
namespace {

// Eigenvalues from the least up, added one by one.
class Tail {
 public:
  Tail(const float* ascending, int64_t n) : next_(ascending) {
    for (int64_t i = 0; i < n; i++) mean_ += static_cast<double>(ascending[i]) / static_cast<double>(n);
  }

  void grow() {
    const double l = std::max(static_cast<double>(*next_++), kernels::kSpectrumFloor * mean_);
    count_++;
    sum_ += l;
    logarithms_ += std::log(l);
  }

  double gap() const {
    if (count_ == 0 || mean_ == 0) return 0;
    return std::max(std::log(sum_ / count_) - logarithms_ / count_,
                    0.0);  // rounding makes it negative; NaN stays
  }

 private:
  const float* next_;
  double mean_ = 0, count_ = 0, sum_ = 0, logarithms_ = 0;
};

}  // namespace

double tail_gap(const float* ascending, int64_t n, int64_t rank) {
  Tail tail(ascending, n);
  for (int64_t i = 0; i < n - rank; i++) tail.grow();
  return tail.gap();
}

int64_t flat_rank(const float* ascending, int64_t n, double most) {
  Tail tail(ascending, n);
  int64_t least = n;
  for (int64_t rank = n - 1; rank >= 0; rank--) {
    tail.grow();
    if (tail.gap() <= most) least = rank;
  }
  return least;
}

}  // namespace kiln::optim
