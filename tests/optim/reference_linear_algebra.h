// Dense linear algebra in fp64, by the textbook: what the optimizers' references are written in. Shares
// nothing with optim/ or kernels/.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "tests/optim/reference_eigen.h"
#include "tests/optim/reference_matrix.h"

namespace kiln::tests::reference {

// max(l, 1e-10 mean(l))
inline std::vector<double> floored(std::vector<double> l, double mean = -1) {
  if (mean < 0) {
    mean = 0;
    for (double v : l) mean += v / static_cast<double>(l.size());
  }
  for (double& v : l) v = std::max(v, 1e-10 * mean);
  return l;
}

// V diag(l^power) V^T
inline Matrix power(const Matrix& v, const std::vector<double>& l, double exponent) {
  Matrix scaled = v;
  for (size_t i = 0; i < v.rows; i++) {
    for (size_t j = 0; j < v.cols; j++) scaled(i, j) *= std::pow(l[j], exponent);
  }
  return scaled * transpose(v);
}

// Householder QR: the first `wanted` columns of the full Q of a (rows >= wanted), from reflections of a's
// columns. Signs as LAPACK has them: the diagonal of R is -sign(alpha) ||.||; of a zero column nothing is
// reflected.
inline Matrix qr(Matrix a, size_t wanted) {
  const size_t m = a.rows, k = std::min({a.cols, wanted, a.rows});
  std::vector<std::vector<double>> reflectors;
  for (size_t j = 0; j < k; j++) {
    double rest = 0;
    for (size_t i = j + 1; i < m; i++) rest += a(i, j) * a(i, j);
    std::vector<double> v(m, 0.0);
    if (rest > 0) {
      const double alpha = a(j, j), beta = -std::copysign(std::sqrt(alpha * alpha + rest), alpha);
      for (size_t i = j; i < m; i++) v[i] = a(i, j);
      v[j] = alpha - beta;
      double length = 0;
      for (double e : v) length += e * e;
      for (double& e : v) e *= std::sqrt(2 / length);
      std::vector<double> dots(a.cols, 0.0);
      for (size_t i = j; i < m; i++) {
        for (size_t c = j; c < a.cols; c++) dots[c] += v[i] * a(i, c);
      }
      for (size_t i = j; i < m; i++) {
        for (size_t c = j; c < a.cols; c++) a(i, c) -= dots[c] * v[i];
      }
    }
    reflectors.push_back(std::move(v));
  }
  Matrix q(m, wanted);
  for (size_t j = 0; j < wanted; j++) q(j, j) = 1;
  for (size_t j = reflectors.size(); j-- > 0;) {
    const std::vector<double>& v = reflectors[j];
    std::vector<double> dots(wanted, 0.0);
    for (size_t i = j; i < m; i++) {
      for (size_t c = 0; c < wanted; c++) dots[c] += v[i] * q(i, c);
    }
    for (size_t i = j; i < m; i++) {
      for (size_t c = 0; c < wanted; c++) q(i, c) -= dots[c] * v[i];
    }
  }
  return q;
}
inline Matrix qr(const Matrix& a) {
  return qr(a, a.cols);
}

// Bases from a first gradient: eigenvectors of its smaller Gram matrix, and a Householder QR for the other
// side, of which `right_columns` are wanted if it is the right one.
struct Bases {
  Matrix left, right;
};
inline Bases seed_bases(const Matrix& g, size_t right_columns) {
  if (g.rows <= g.cols) {
    const Matrix left = eigen(g * transpose(g)).vectors;
    return {left, qr(columns(transpose(g) * left, std::min(right_columns, g.rows)), right_columns)};
  }
  const Matrix right = eigen(transpose(g) * g).vectors;
  return {qr(g * right, g.rows), columns(right, right_columns)};
}

}  // namespace kiln::tests::reference
