// Softmax and cross-entropy of one row in fp64, straight from the definition.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace kiln::tests::reference {

inline std::vector<double> softmax(const std::vector<double>& logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p;
  double sum = 0;
  for (double x : logits) {
    p.push_back(std::exp(x - max));
    sum += p.back();
  }
  for (double& x : p) x /= sum;
  return p;
}

inline double cross_entropy(const std::vector<double>& logits, int64_t target) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (double x : logits) sum += std::exp(x - max);
  return max - logits[static_cast<size_t>(target)] + std::log(sum);
}

// d cross_entropy / d logits
inline std::vector<double> cross_entropy_gradient(const std::vector<double>& logits, int64_t target) {
  std::vector<double> d = softmax(logits);
  d[static_cast<size_t>(target)] -= 1;
  return d;
}

}  // namespace kiln::tests::reference
