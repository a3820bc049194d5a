// RMS norm in fp64, straight from the definition.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace kiln::tests::reference {

struct RmsNorm {
  std::vector<double> out, rstd;
};

inline RmsNorm rmsnorm_forward(const std::vector<double>& in, const std::vector<double>& weight, int64_t rows,
                               int64_t C, double eps) {
  const auto size = [](int64_t n) { return static_cast<size_t>(n); };
  RmsNorm r{std::vector<double>(size(rows * C)), std::vector<double>(size(rows))};
  for (int64_t i = 0; i < rows; i++) {
    double mean_square = 0;
    for (int64_t c = 0; c < C; c++)
      mean_square += in[size(i * C + c)] * in[size(i * C + c)] / static_cast<double>(C);
    r.rstd[size(i)] = 1 / std::sqrt(mean_square + eps);
    for (int64_t c = 0; c < C; c++)
      r.out[size(i * C + c)] = in[size(i * C + c)] * r.rstd[size(i)] * weight[size(c)];
  }
  return r;
}

// Adds to d_in and d_weight.
inline void rmsnorm_backward(const RmsNorm& forward, const std::vector<double>& in,
                             const std::vector<double>& weight, const std::vector<double>& d_out,
                             int64_t rows, int64_t C, std::vector<double>& d_in,
                             std::vector<double>& d_weight) {
  const auto size = [](int64_t n) { return static_cast<size_t>(n); };
  for (int64_t i = 0; i < rows; i++) {
    const double rstd = forward.rstd[size(i)];
    double mean_gh = 0;
    for (int64_t c = 0; c < C; c++) {
      const double d = d_out[size(i * C + c)], h = in[size(i * C + c)] * rstd;
      mean_gh += d * weight[size(c)] * h / static_cast<double>(C);
      d_weight[size(c)] += d * h;
    }
    for (int64_t c = 0; c < C; c++) {
      const double h = in[size(i * C + c)] * rstd;
      d_in[size(i * C + c)] += rstd * (d_out[size(i * C + c)] * weight[size(c)] - h * mean_gh);
    }
  }
}

}  // namespace kiln::tests::reference
