// The references' two eigen-decompositions, on matrices whose eigenvalues are known, and against each other.
#include <gtest/gtest.h>

#include "tests/optim/reference_linear_algebra.h"
#include "tests/optim/support.h"

namespace kiln::tests {
namespace {

using namespace reference;

Matrix with_spectrum(const std::vector<double>& values) {
  const size_t n = values.size();
  const Matrix q = qr(Matrix(n, n, normals(static_cast<int64_t>(n * n), n)));
  return power(q, values, 1);
}

// Backward stability: eigenvalues and the residual are within some n units of the largest eigenvalue.
void expect_decomposed(const Matrix& a, const std::vector<double>& values, const Spectrum& found) {
  const auto n = static_cast<double>(a.rows);
  const double bound = 8 * n * 0x1p-53 * std::max(std::abs(values.front()), std::abs(values.back()));
  for (size_t i = 0; i < a.rows; i++) EXPECT_NEAR(found.values[i], values[i], bound) << i;
  const Matrix& v = found.vectors;
  EXPECT_LE(norm(transpose(v) * v - identity(a.rows)), 8 * n * 0x1p-53 * std::sqrt(n));
  EXPECT_LE(norm(a * v - power(v, found.values, 1) * v), bound * std::sqrt(n));
}

TEST(ReferenceEigen, FindsKnownSpectra) {
  for (const size_t n : {1, 2, 3, 7, 41, 90}) {
    std::vector<double> spread, repeated, split;
    for (size_t i = 0; i < n; i++) {
      spread.push_back(std::exp(-0.3 * static_cast<double>(i)) - 0.2);
      repeated.push_back(i < n / 3 ? 4.0 : 1.0);
      split.push_back(i < n / 2 ? 1.0 : 0.0);
    }
    for (const auto& values : {spread, repeated, split}) {
      const Matrix a = with_spectrum(values);
      expect_decomposed(a, values, eigen_by_jacobi(a));
      expect_decomposed(a, values, eigen_by_tridiagonal(a));
    }
  }
  expect_decomposed(Matrix(5, 5), {0, 0, 0, 0, 0}, eigen_by_tridiagonal(Matrix(5, 5)));
  expect_decomposed(identity(50, 2), std::vector<double>(50, 2.0), eigen_by_tridiagonal(identity(50, 2)));
}

}  // namespace
}  // namespace kiln::tests
