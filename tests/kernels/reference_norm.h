// LayerNorm in fp64, straight from the definition.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace kiln::tests::reference {

struct LayerNorm {
  std::vector<double> out, mean, rstd;
};

inline LayerNorm layernorm_forward(const std::vector<double>& in, const std::vector<double>& weight,
                                   const std::vector<double>& bias, int64_t rows, int64_t C, double eps) {
  const auto size = [](int64_t n) { return static_cast<size_t>(n); };
  LayerNorm r{std::vector<double>(size(rows * C)), std::vector<double>(size(rows)),
              std::vector<double>(size(rows))};
  for (int64_t i = 0; i < rows; i++) {
    const double* x = &in[size(i * C)];
    double mean = 0, variance = 0;
    for (int64_t c = 0; c < C; c++) mean += x[c] / static_cast<double>(C);
    for (int64_t c = 0; c < C; c++) variance += (x[c] - mean) * (x[c] - mean) / static_cast<double>(C);
    r.mean[size(i)] = mean;
    r.rstd[size(i)] = 1 / std::sqrt(variance + eps);
    for (int64_t c = 0; c < C; c++) {
      r.out[size(i * C + c)] = (x[c] - mean) * r.rstd[size(i)] * weight[size(c)] + bias[size(c)];
    }
  }
  return r;
}

// Adds to d_in, d_weight, d_bias. `forward` holds the mean and rstd of `in`.
inline void layernorm_backward(const LayerNorm& forward, const std::vector<double>& in,
                               const std::vector<double>& weight, const std::vector<double>& d_out,
                               int64_t rows, int64_t C, std::vector<double>& d_in,
                               std::vector<double>& d_weight, std::vector<double>& d_bias) {
  const auto size = [](int64_t n) { return static_cast<size_t>(n); };
  for (int64_t i = 0; i < rows; i++) {
    const double mean = forward.mean[size(i)], rstd = forward.rstd[size(i)];
    double mean_g = 0, mean_gh = 0;
    for (int64_t c = 0; c < C; c++) {
      const double d = d_out[size(i * C + c)], h = (in[size(i * C + c)] - mean) * rstd;
      mean_g += d * weight[size(c)] / static_cast<double>(C);
      mean_gh += d * weight[size(c)] * h / static_cast<double>(C);
      d_weight[size(c)] += d * h;
      d_bias[size(c)] += d;
    }
    for (int64_t c = 0; c < C; c++) {
      const double h = (in[size(i * C + c)] - mean) * rstd;
      d_in[size(i * C + c)] += rstd * (d_out[size(i * C + c)] * weight[size(c)] - mean_g - h * mean_gh);
    }
  }
}

}  // namespace kiln::tests::reference
