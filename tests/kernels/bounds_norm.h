// How far the norms may lie from their fp64 references, by the kernels' own arithmetic in fp32: to first order in the
// unit roundoff, for any order of additions.
#pragma once

#include <cmath>
#include <vector>

#include "tests/kernels/reference_norm.h"
#include "tests/kernels/reference_rmsnorm.h"
#include "tests/kernels/support.h"

namespace kiln::tests {

struct RowSizes {  // in fp64: what the error bounds are made of
  double mean, variance, mean_magnitude;
};
inline RowSizes sizes_of(const double* x, int64_t C) {
  RowSizes s{};
  for (int64_t c = 0; c < C; c++) s.mean += x[c] / static_cast<double>(C);
  for (int64_t c = 0; c < C; c++) {
    s.variance += (x[c] - s.mean) * (x[c] - s.mean) / static_cast<double>(C);
    s.mean_magnitude += std::fabs(x[c]) / static_cast<double>(C);
  }
  return s;
}

// A rounded sum of C terms, then a rounded division.
inline double mean_error(const RowSizes& s, int64_t C) {
  return (sum_error(C) + kUnit) * s.mean_magnitude;
}

// How 1 / sqrt(variance + eps) errs beyond the variance itself, relatively: a rounded sum, which the root halves, then a
// rounded root and a rounded reciprocal on the CPU, or CUDA's rsqrtf, 2 ulp at most.
inline constexpr double kRootOnCpu = 3 * kUnit, kRootOnCuda = 5 * kUnit;

// The sum of squared deviations: each deviation carries the error of the mean, which to first order cancels in the sum
// (deviations sum to 0) and leaves mean_error^2, and one rounding; square, sum and division add C + 1 more.
inline double rstd_relative_error(const RowSizes& s, int64_t C, double eps, double root) {
  const double error = mean_error(s, C);
  const double variance_error = error * error + (sum_error(C) + 4 * kUnit) * (s.variance + error * error);
  return 0.5 * variance_error / (s.variance + eps) + root;
}

// h = (x - mean) rstd: the mean's error, a rounded difference, rstd's error, a rounded product; then a product with the
// weight and a sum with the bias.
inline double layernorm_error(const RowSizes& s, int64_t C, double eps, double root, double x, double weight,
                              double bias) {
  const double rstd = 1 / std::sqrt(s.variance + eps), h = (x - s.mean) * rstd, w = std::fabs(weight);
  const double h_error =
      rstd * mean_error(s, C) + std::fabs(h) * (rstd_relative_error(s, C, eps, root) + 2 * kUnit);
  return w * h_error + 2 * kUnit * (w * std::fabs(h) + std::fabs(bias));
}

struct NormBackwardBounds {
  std::vector<double> d_in, d_weight, d_bias;
};

// Of kernels that are given the reference's mean and rstd, rounded to fp32; d_weight and d_bias: what was there before.
//
// h: mean and rstd came in rounded, a difference and a product: h_error below. g = d w: one rounding. Means of C terms:
// sum_error(C), a division, and the errors of the terms. Their combination: six roundings, each at most of the sum of
// magnitudes. Sums over rows: rows + 1 terms.
inline NormBackwardBounds layernorm_backward_bounds(
    const reference::LayerNorm& r, const std::vector<double>& in, const std::vector<double>& weight,
    const std::vector<double>& d_out,
    const std::vector<double>& d_residual,  // may be zeros
    const std::vector<double>& d_weight, const std::vector<double>& d_bias, int64_t rows, int64_t C) {
  const auto index = [](int64_t i) { return static_cast<size_t>(i); };
  NormBackwardBounds b{std::vector<double>(index(rows * C)), std::vector<double>(index(C)),
                       std::vector<double>(index(C))};
  for (int64_t c = 0; c < C; c++) {
    b.d_weight[index(c)] = sum_error(rows + 1) * std::fabs(d_weight[index(c)]);
    b.d_bias[index(c)] = sum_error(rows + 1) * std::fabs(d_bias[index(c)]);
  }
  for (int64_t i = 0; i < rows; i++) {
    const double row_mean = r.mean[index(i)], rstd = r.rstd[index(i)];
    const auto h_of = [&](int64_t c) { return (in[index(i * C + c)] - row_mean) * rstd; };
    const auto h_error = [&](int64_t c) {
      return rstd * kUnit * std::fabs(row_mean) + 3 * kUnit * std::fabs(h_of(c));
    };
    double g_size = 0, gh_size = 0, mean_g = 0, mean_gh = 0, gh_error = 0;
    for (int64_t c = 0; c < C; c++) {
      const double d = d_out[index(i * C + c)], g = d * weight[index(c)] / static_cast<double>(C);
      mean_g += g;
      g_size += std::fabs(g);
      mean_gh += g * h_of(c);
      gh_size += std::fabs(g * h_of(c));
      gh_error += std::fabs(g) * h_error(c);
      b.d_weight[index(c)] +=
          (sum_error(rows + 1) + kUnit) * std::fabs(d * h_of(c)) + std::fabs(d) * h_error(c);
      b.d_bias[index(c)] += sum_error(rows + 1) * std::fabs(d);
    }
    const double mean_g_error = (sum_error(C) + 2 * kUnit) * g_size;
    const double mean_gh_error = (sum_error(C) + 3 * kUnit) * gh_size + gh_error;
    for (int64_t c = 0; c < C; c++) {
      const double g = std::fabs(d_out[index(i * C + c)] * weight[index(c)]), h = std::fabs(h_of(c));
      const double size = g + std::fabs(mean_g) + h * std::fabs(mean_gh);
      b.d_in[index(i * C + c)] =
          rstd * (mean_g_error + h * mean_gh_error + h_error(c) * std::fabs(mean_gh) + 6 * kUnit * size) +
          kUnit * std::fabs(d_residual[index(i * C + c)]);
    }
  }
  return b;
}

// A rounded sum of C squares, each rounded, and a rounded division; the root halves what came before.
inline double rmsnorm_rstd_relative_error(int64_t C, double root) {
  return 0.5 * (sum_error(C) + 3 * kUnit) + root;
}

// As layernorm_backward_bounds. h: a rounded rstd and a product, 2 u; d h one more; times the weight one more; a sum of
// C and a division; then g, h mean, their difference, the product with rstd (rounded itself) and the sum with the
// residual.
inline NormBackwardBounds rmsnorm_backward_bounds(const reference::RmsNorm& r, const std::vector<double>& in,
                                                  const std::vector<double>& weight,
                                                  const std::vector<double>& d_out,
                                                  const std::vector<double>& d_residual,
                                                  const std::vector<double>& d_weight, int64_t rows,
                                                  int64_t C) {
  const auto index = [](int64_t i) { return static_cast<size_t>(i); };
  NormBackwardBounds b{std::vector<double>(index(rows * C)), std::vector<double>(index(C)), {}};
  for (int64_t c = 0; c < C; c++) b.d_weight[index(c)] = sum_error(rows + 1) * std::fabs(d_weight[index(c)]);
  for (int64_t i = 0; i < rows; i++) {
    const double rstd = r.rstd[index(i)];
    double mean_gh = 0, gh_size = 0;
    for (int64_t c = 0; c < C; c++) {
      const double d = d_out[index(i * C + c)], h = in[index(i * C + c)] * rstd;
      const double gh = d * weight[index(c)] * h / static_cast<double>(C);
      mean_gh += gh, gh_size += std::fabs(gh);
      b.d_weight[index(c)] += (sum_error(rows + 1) + 3 * kUnit) * std::fabs(d * h);
    }
    const double mean_error = (sum_error(C) + 5 * kUnit) * gh_size;
    for (int64_t c = 0; c < C; c++) {
      const double g = std::fabs(d_out[index(i * C + c)] * weight[index(c)]);
      const double h = std::fabs(in[index(i * C + c)] * rstd);
      b.d_in[index(i * C + c)] = rstd * (h * mean_error + 7 * kUnit * (g + h * std::fabs(mean_gh))) +
                                 kUnit * std::fabs(d_residual[index(i * C + c)]);
    }
  }
  return b;
}

}  // namespace kiln::tests
