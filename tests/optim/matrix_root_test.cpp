// Inverse roots in fp32 against fp64, over condition numbers; what happens where the iteration fails.
#include "optim/matrix_root.h"

#include <gtest/gtest.h>

#include "kernels/table.h"
#include "tests/optim/batch.h"
#include "tests/optim/reference_shampoo.h"

namespace kiln::tests {
namespace {

using reference::coupled_root, reference::eigen, reference::identity, reference::norm, reference::power,
    reference::qr, reference::trace;

struct RootRun {
  Matrix by_products, by_eigen;
  optim::Events events;
};
RootRun roots_of(const Matrix& s) {
  const auto n = static_cast<int64_t>(s.rows);
  Machine machine;
  std::vector<char> scratch(64 << 20);
  machine.context.workspace = Workspace(scratch.data(), scratch.size());
  std::vector<float> in(s.x.begin(), s.x.end()), out(in.size());
  float *from = in.data(), *to = out.data();
  RootRun run;
  optim::newton_schulz_root(machine.context, &to, &from, 1, n, run.events);
  run.by_products = Matrix(s.rows, s.rows, {out.begin(), out.end()});
  optim::eigen_root(machine.context, &to, &from, 1, n, nullptr, run.events);
  run.by_eigen = Matrix(s.rows, s.rows, {out.begin(), out.end()});
  return run;
}

// Eigenvalues from 1 down to 1/condition, evenly in the exponent; rounded to fp32.
Matrix conditioned(size_t n, double condition) {
  const Matrix q = qr(Matrix(n, n, normals(static_cast<int64_t>(n * n), 3)));
  std::vector<double> l;
  for (size_t i = 0; i < n; i++)
    l.push_back(std::pow(condition, -static_cast<double>(i) / static_cast<double>(n - 1)));
  Matrix s = power(q, l, 1);
  for (double& v : s.x) v = static_cast<float>(v);
  for (size_t i = 0; i < n; i++) {
    for (size_t j = 0; j < i; j++) s(j, i) = s(i, j);
  }
  return s;
}

// The ridge, 1e-6 of the mean eigenvalue, is part of what Newton-Schulz promises, and ten steps leave 2e-5 in
// exact arithmetic. Rounding comes on top: each of some thirty products adds u, amplified by up to the
// condition number of s with its ridge. The eigen-decomposition's is that of s itself, amplified likewise.
TEST(MatrixRoot, ErrorOverConditionNumbers) {
  for (const double condition : {1.0, 1e2, 1e3, 1e4, 1e5, 1e6}) {
    const size_t n = 64;
    const Matrix s = conditioned(n, condition);
    const auto spectrum = eigen(s);
    const Matrix exact = power(spectrum.vectors, spectrum.values, -0.5);
    const auto ridged = eigen(s + identity(n, 1e-6 * trace(s) / static_cast<double>(n)));
    const Matrix expected = power(ridged.vectors, ridged.values, -0.5);
    const RootRun run = roots_of(s);
    const double products = norm(run.by_products - expected) / norm(expected);
    const double eigen_error = norm(run.by_eigen - exact) / norm(exact);
    RecordProperty(fmt::format("condition {:.0e} newton_schulz", condition), fmt::format("{:.1e}", products));
    fmt::print("condition {:.0e}: relative error {:.1e} by products, {:.1e} by eigen-decomposition\n",
               condition, products, eigen_error);
    EXPECT_LE(products, 2e-5 + 30 * ridged.values[0] / ridged.values[n - 1] * kUnit) << condition;
    EXPECT_LE(eigen_error, 30 * (condition + 10) * kUnit) << condition;
    EXPECT_EQ(run.events.slow_roots, 0);
  }
}

// L is 1.01 times the smaller of two bounds, each of which is the smaller one here once; sums are in fp64.
TEST(MatrixRoot, StartsFromAnUpperBoundOfTheLargestEigenvalue) {
  Matrix diagonal(12, 12);
  for (size_t i = 0; i < 12; i++) diagonal(i, i) = static_cast<double>(i + 1);
  const Matrix mixed(4, 4,
                     {2.5, 0.5, 0.5, 0.5, 0.5, 1.5, 0.5, -0.5, 0.5, 0.5, 1.5, -0.5, 0.5, -0.5, -0.5, 2.5});
  for (const auto& [given, trace_is_smaller] : {std::pair{mixed, true}, {diagonal, false}}) {
    const size_t n = given.rows;
    const double size = static_cast<double>(n);
    const Matrix s = given + identity(n, 1e-6 * trace(given) / size);
    const double mean = trace(s) / size,
                 by_trace = mean + std::sqrt((size - 1) * (norm(s) * norm(s) / size - mean * mean));
    Matrix d(n, 1), absolute = s;
    for (double& v : absolute.x) v = std::abs(v);
    for (size_t i = 0; i < n; i++) {
      for (size_t j = 0; j < n; j++) d(i, 0) += absolute(i, j);
    }
    const Matrix turned = absolute * d;
    double by_rows = 0;
    for (size_t i = 0; i < n; i++) by_rows = std::max(by_rows, turned(i, 0) / d(i, 0));
    ASSERT_EQ(by_trace < by_rows, trace_is_smaller) << by_trace << " " << by_rows;
    ASSERT_GE(std::min(by_trace, by_rows), eigen(s).values[0] * (1 - 1e-12));

    Machine machine;
    std::vector<float> in(given.x.begin(), given.x.end()), y(in.size());
    float *from = in.data(), *to = y.data();
    double inverse_root = 0;
    kernels::root_start(
        machine.context,
        {.y = &to, .inverse_root = &inverse_root, .s = &from, .count = 1, .n = static_cast<int64_t>(n)});
    const double largest = 1.01 * std::min(by_trace, by_rows);
    EXPECT_NEAR(inverse_root * std::sqrt(largest), 1, 1e-12);
    EXPECT_LE(norm(Matrix(n, n, {y.begin(), y.end()}) - 1 / largest * s), kUnit * norm(1 / largest * s));
  }
}

TEST(MatrixRoot, AgreesWithTheReferenceIteration) {
  const Matrix s = conditioned(40, 100), expected = coupled_root(s);
  EXPECT_LE(norm(roots_of(s).by_products - expected), 30 * 100 * kUnit * norm(expected));
}

TEST(MatrixRoot, EigenDecompositionTakesOverWhereTheIterationFails) {
  Matrix s = identity(5);
  s(1, 2) = s(2, 1) = 3;  // not positive definite: the iteration cannot converge
  const RootRun run = roots_of(s);
  EXPECT_EQ(run.events.slow_roots, 1);
  EXPECT_EQ(run.by_products.x, run.by_eigen.x);
}

}  // namespace
}  // namespace kiln::tests
