#include "optim/matrix_root.h"

#include <array>
#include <cmath>
#include <utility>

#include "kernels/table.h"
#include "src/device/scratch.h"

namespace kiln::optim {
namespace {

// (a, b) of each step: Grishina et al., "Accelerating Newton-Schulz iteration for orthogonalization via
// Chebyshev-type polynomials" (CANS), arXiv 2506.10935; the last step is the classical Newton-Schulz cubic.
constexpr std::array<std::array<double, 2>, 10> kCubics = {{{5.182503604966906, -5.178098480082684},
                                                            {2.586120737395915, -0.6479542005271643},
                                                            {2.567364126726186, -0.6454968804392178},
                                                            {2.520560084348265, -0.6393528082067044},
                                                            {2.410759275435182, -0.6248683598710716},
                                                            {2.1883348130094173, -0.5952022073798908},
                                                            {1.8595760874873613, -0.5504490972723968},
                                                            {1.589020160467417, -0.5126569802066718},
                                                            {1.5051653981684994, -0.5007377068751799},
                                                            {1.5, -0.5}}};

// out = alpha a b + beta add. All of these matrices are symmetric, but computing half of each product makes
// the coupled iteration unstable: in fp32 it diverges from condition 1e3 on, where whole products stay at
// 2e-5.
void product(Context& context, kernels::Matrices out, kernels::ConstMatrices a, kernels::ConstMatrices b,
             kernels::ConstMatrices add, double alpha, double beta, int64_t count, int64_t n) {
  kernels::matrix_product(context, {.out = out,
                                    .a = a,
                                    .b = b,
                                    .add = add,
                                    .count = count,
                                    .M = n,
                                    .N = n,
                                    .K = n,
                                    .alpha = alpha,
                                    .beta = beta});
}

// The matrices whose iteration did not converge.
void replace_slow_roots(Context& context, kernels::Matrices out, kernels::ConstMatrices s,
                        const double* residual, int64_t count, int64_t n, Events& events) {
  Scratch scratch(context);
  float** slow_out = scratch.take<float*>(count);
  const float** slow = scratch.take<const float*>(count);
  int64_t found = context.dry_run ? count : 0;
  for (int64_t k = 0; !context.dry_run && k < count; k++) {
    if (residual[k] <= 1e-2 * std::sqrt(static_cast<double>(n))) continue;
    slow_out[found] = out[k];
    slow[found++] = s[k];
  }
  if (found == 0) return;
  if (!context.dry_run) events.slow_roots += found;
  eigen_root(context, slow_out, slow, found, n, nullptr, events);
}

}  // namespace

void Events::count(const Context& context, const int32_t* status, int64_t count) {
  for (int64_t k = 0; !context.dry_run && k < count; k++) {
    retried += status[k] == kernels::kRetried;
    failed += status[k] == kernels::kFailed;
  }
}

void eigenbasis_root(Context& context, kernels::Matrices out, kernels::ConstMatrices q,
                     kernels::ConstMatrices l, int64_t count, int64_t n) {
  Scratch scratch(context);
  kernels::Matrices scaled = scratch.matrices(count, n * n);  // q l^(-1/4)
  kernels::matrix_scale(context, {.out = scaled,
                                  .x = q,
                                  .l = l,
                                  .count = count,
                                  .rows = n,
                                  .cols = n,
                                  .along = kernels::Along::columns,
                                  .power = -0.25});
  kernels::matrix_product(context, {.out = out,
                                    .a = scaled,
                                    .b = scaled,
                                    .count = count,
                                    .M = n,
                                    .N = n,
                                    .K = n,
                                    .b_transposed = true,
                                    .symmetric = true});
}

void eigen_root(Context& context, kernels::Matrices out, kernels::ConstMatrices s, int64_t count, int64_t n,
                const double* mean, Events& events) {
  Scratch scratch(context);
  kernels::Matrices vectors = scratch.matrices(count, n * n);  // eigenvectors as rows
  kernels::Matrices values = scratch.matrices(count, n);
  int32_t* status = scratch.take<int32_t>(count);
  kernels::matrix_eigen(
      context, {.vectors = vectors, .values = values, .s = s, .count = count, .n = n, .status = status});
  events.count(context, status, count);
  kernels::matrix_scale(context, {.out = vectors,
                                  .x = vectors,
                                  .l = values,
                                  .count = count,
                                  .rows = n,
                                  .cols = n,
                                  .along = kernels::Along::rows,
                                  .power = -0.25,
                                  .mean = mean});
  kernels::matrix_product(context, {.out = out,
                                    .a = vectors,
                                    .b = vectors,
                                    .count = count,
                                    .M = n,
                                    .N = n,
                                    .K = n,
                                    .a_transposed = true,
                                    .symmetric = true});
}

void newton_schulz_root(Context& context, kernels::Matrices out, kernels::ConstMatrices s, int64_t count,
                        int64_t n, Events& events) {
  if (n == 0) return;
  Scratch scratch(context);
  kernels::Matrices y = scratch.matrices(count, n * n), next_y = scratch.matrices(count, n * n);
  kernels::Matrices z = scratch.matrices(count, n * n), next_z = scratch.matrices(count, n * n);
  kernels::Matrices p = scratch.matrices(count, n * n);
  double* inverse_root = scratch.take<double>(count);  // L^(-1/2)
  double* residual = scratch.take<double>(count);
  kernels::root_start(context, {.y = y, .inverse_root = inverse_root, .s = s, .count = count, .n = n});
  kernels::matrix_fill(context,
                       {.out = z, .count = count, .rows = n, .cols = n, .diagonal = true, .alpha = 1});
  for (const auto& [a, b] : kCubics) {
    product(context, p, z, y, nullptr, 1, 0, count, n);
    product(context, next_y, y, p, y, b, a, count, n);
    product(context, next_z, p, z, z, b, a, count, n);
    std::swap(y, next_y);
    std::swap(z, next_z);
  }
  product(context, p, z, y, nullptr, 1, 0, count, n);
  kernels::identity_distance(context, {.out = residual, .x = p, .count = count, .n = n});
  kernels::matrix_combine(context,
                          {.out = out, .x = z, .count = count, .rows = n, .cols = n, .scale = inverse_root});
  replace_slow_roots(context, out, s, residual, count, n, events);
}

}  // namespace kiln::optim
