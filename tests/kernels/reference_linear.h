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
  explicit Result(int64_t n) : value(static_cast<size_t>(n)), magnitude(static_cast<size_t>(n)) {}
  void add(int64_t i, double term) {
    value[static_cast<size_t>(i)] += term;
    magnitude[static_cast<size_t>(i)] += std::fabs(term);
  }
};

// result[i, j] = sum over l < terms of a[i * a_row + l * a_step] * b[j * b_row + l * b_step]
inline Result product(int64_t rows, int64_t columns, int64_t terms, const std::vector<double>& a,
                      int64_t a_row, int64_t a_step, const std::vector<double>& b, int64_t b_row,
                      int64_t b_step) {
  Result result(rows * columns);
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < columns; j++) {
      const double *x = a.data() + i * a_row, *y = b.data() + j * b_row;
      double value = 0, magnitude = 0;
      for (int64_t l = 0; l < terms; l++) {
        const double term = x[l * a_step] * y[l * b_step];
        value += term;
        magnitude += std::fabs(term);
      }
      result.value[static_cast<size_t>(i * columns + j)] = value;
      result.magnitude[static_cast<size_t>(i * columns + j)] = magnitude;
    }
  }
  return result;
}

// out[r, n] = sum_k in[r, k] weight[n, k] + bias[n]
inline Result forward(const Linear& l, bool with_bias) {
  Result out = product(l.rows, l.N, l.K, l.in, l.K, 1, l.weight, l.K, 1);
  for (int64_t i = 0; with_bias && i < l.rows * l.N; i++) out.add(i, l.bias[static_cast<size_t>(i % l.N)]);
  return out;
}

// d_in[r, k] = sum_n d_out[r, n] weight[n, k]
inline Result backward_input(const Linear& l) {
  return product(l.rows, l.K, l.N, l.d_out, l.N, 1, l.weight, 1, l.K);
}

// d_weight[n, k] = sum_r d_out[r, n] in[r, k]
inline Result backward_weight(const Linear& l) {
  return product(l.N, l.K, l.rows, l.d_out, 1, l.N, l.in, 1, l.K);
}

// d_bias[n] = sum_r d_out[r, n]
inline Result backward_bias(const Linear& l) {
  Result d_bias(l.N);
  for (int64_t i = 0; i < l.rows * l.N; i++) d_bias.add(i % l.N, l.d_out[static_cast<size_t>(i)]);
  return d_bias;
}

}  // namespace kiln::tests::reference
