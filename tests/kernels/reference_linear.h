// Linear layers in fp64, straight from their definition, and beside each result the sum of the magnitudes of
// its terms, which rounding errors are proportional to. Independent of kernels/.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace kiln::tests::reference {

struct Linear {
  int64_t rows, N, K;
  std::vector<double> in;      // (rows, K)
  std::vector<double> weight;  // (N, K)
  std::vector<double> bias;    // (N)
  std::vector<double> d_out;   // (rows, N)
};

struct Result {
  std::vector<double> value, magnitude;
  void add(int64_t i, double term) {
    value[static_cast<size_t>(i)] += term;
    magnitude[static_cast<size_t>(i)] += std::fabs(term);
  }
  explicit Result(int64_t n) : value(static_cast<size_t>(n)), magnitude(static_cast<size_t>(n)) {}
};

inline Result forward(const Linear& l, bool with_bias) {
  Result out(l.rows * l.N);
  const double *in = l.in.data(), *weight = l.weight.data();
  for (int64_t r = 0; r < l.rows; r++) {
    for (int64_t n = 0; n < l.N; n++) {
      for (int64_t k = 0; k < l.K; k++) out.add(r * l.N + n, in[r * l.K + k] * weight[n * l.K + k]);
      if (with_bias) out.add(r * l.N + n, l.bias[static_cast<size_t>(n)]);
    }
  }
  return out;
}

inline Result backward_input(const Linear& l) {
  Result d_in(l.rows * l.K);
  const double *d_out = l.d_out.data(), *weight = l.weight.data();
  for (int64_t r = 0; r < l.rows; r++) {
    for (int64_t n = 0; n < l.N; n++) {
      for (int64_t k = 0; k < l.K; k++) d_in.add(r * l.K + k, d_out[r * l.N + n] * weight[n * l.K + k]);
    }
  }
  return d_in;
}

inline Result backward_weight(const Linear& l) {
  Result d_weight(l.N * l.K);
  const double *d_out = l.d_out.data(), *in = l.in.data();
  for (int64_t r = 0; r < l.rows; r++) {
    for (int64_t n = 0; n < l.N; n++) {
      for (int64_t k = 0; k < l.K; k++) d_weight.add(n * l.K + k, d_out[r * l.N + n] * in[r * l.K + k]);
    }
  }
  return d_weight;
}

inline Result backward_bias(const Linear& l) {
  Result d_bias(l.N);
  for (int64_t r = 0; r < l.rows; r++) {
    for (int64_t n = 0; n < l.N; n++) d_bias.add(n, l.d_out[static_cast<size_t>(r * l.N + n)]);
  }
  return d_bias;
}

}  // namespace kiln::tests::reference
