// Eigen-decompositions of symmetric matrices in fp64, by the textbook: the references' own. Jacobi's for small matrices
// and, some twenty times as fast where a side has hundreds, Householder's tridiagonal form with implicit QL steps.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

#include "tests/optim/reference_matrix.h"

namespace kiln::tests::reference {

struct Spectrum {
  std::vector<double> values;  // descending
  Matrix vectors;              // as columns
};

// From eigenvalues in any order and eigenvectors as rows.
inline Spectrum in_descending_order(const std::vector<double>& values, const Matrix& rows) {
  const size_t n = values.size();
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t i, size_t j) { return values[i] > values[j]; });
  Spectrum out{{}, Matrix(n, n)};
  for (size_t j = 0; j < n; j++) {
    out.values.push_back(values[order[j]]);
    for (size_t i = 0; i < n; i++) out.vectors(i, j) = rows(order[j], i);
  }
  return out;
}

// Cyclic Jacobi rotations.
inline Spectrum eigen_by_jacobi(Matrix a) {
  const size_t n = a.rows;
  Matrix v = identity(n);  // rows become eigenvectors
  for (int sweep = 0; sweep < 40; sweep++) {
    double off = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
      for (size_t j = 0; j < n; j++) (i == j ? all : off) += a(i, j) * a(i, j);
    }
    if (off <= 1e-30 * (all + off)) break;
    for (size_t p = 0; p < n; p++) {
      for (size_t q = p + 1; q < n; q++) {
        if (a(p, q) == 0) continue;
        const double theta = (a(q, q) - a(p, p)) / (2 * a(p, q));
        const double t = (theta >= 0 ? 1 : -1) / (std::abs(theta) + std::sqrt(theta * theta + 1));
        const double c = 1 / std::sqrt(t * t + 1), s = t * c;
        for (size_t k = 0; k < n; k++) {
          const double x = a(k, p), y = a(k, q);
          a(k, p) = c * x - s * y;
          a(k, q) = s * x + c * y;
        }
        for (size_t k = 0; k < n; k++) {
          const double x = a(p, k), y = a(q, k);
          a(p, k) = c * x - s * y;
          a(q, k) = s * x + c * y;
          const double vx = v(p, k), vy = v(q, k);
          v(p, k) = c * vx - s * vy;
          v(q, k) = s * vx + c * vy;
        }
      }
    }
  }
  std::vector<double> values(n);
  for (size_t i = 0; i < n; i++) values[i] = a(i, i);
  return in_descending_order(values, v);
}

// A = Q^T T Q with T tridiagonal; all loops run along rows.
struct Tridiagonal {
  std::vector<double> diagonal, beside;  // beside[i] couples i and i + 1
  Matrix q;
};
inline Tridiagonal tridiagonal(Matrix a) {
  const size_t n = a.rows;
  Tridiagonal out{std::vector<double>(n), std::vector<double>(n), identity(n)};
  std::vector<std::vector<double>> reflectors;
  for (size_t k = 0; k + 1 < n; k++) {
    std::vector<double> v(n, 0.0), p(n, 0.0);  // H = I - v v^T maps a's row k to (.., beta, 0, ..)
    double rest = 0;
    for (size_t i = k + 2; i < n; i++) rest += a(k, i) * a(k, i);
    const double alpha = a(k, k + 1);
    out.beside[k] = alpha;
    if (rest > 0) {
      const double beta = -std::copysign(std::sqrt(alpha * alpha + rest), alpha);
      const double size = std::sqrt(2 / ((alpha - beta) * (alpha - beta) + rest));
      for (size_t i = k + 1; i < n; i++) v[i] = size * a(k, i);
      v[k + 1] = size * (alpha - beta);
      out.beside[k] = beta;
      double vp = 0;
      for (size_t i = k + 1; i < n; i++) {
        for (size_t j = k + 1; j < n; j++) p[i] += a(i, j) * v[j];
        vp += v[i] * p[i];
      }
      for (size_t i = k + 1; i < n; i++) p[i] -= 0.5 * vp * v[i];
      for (size_t i = k + 1; i < n; i++) {
        for (size_t j = k + 1; j < n; j++) a(i, j) -= v[i] * p[j] + p[i] * v[j];
      }
    }
    reflectors.push_back(std::move(v));
  }
  for (size_t i = 0; i < n; i++) out.diagonal[i] = a(i, i);
  for (size_t k = reflectors.size(); k-- > 0;) {  // q = ... H_1 H_0, from the right end on
    const std::vector<double>& v = reflectors[k];
    for (size_t i = k + 1; i < n; i++) {
      double dot = 0;
      for (size_t j = k + 1; j < n; j++) dot += out.q(i, j) * v[j];
      for (size_t j = k + 1; j < n; j++) out.q(i, j) -= dot * v[j];
    }
  }
  return out;
}

// QL steps with Wilkinson's shift on the tridiagonal form; the rotations turn the rows of q into eigenvectors.
inline Spectrum eigen_by_tridiagonal(const Matrix& a) {
  Tridiagonal t = tridiagonal(a);
  std::vector<double>&d = t.diagonal, &e = t.beside;
  const size_t n = d.size();
  for (size_t l = 0; l < n; l++) {
    for (int step = 0; step < 200; step++) {
      size_t m = l;  // the first index from l on whose coupling is negligible
      while (m + 1 < n && std::abs(e[m]) > 0x1p-53 * (std::abs(d[m]) + std::abs(d[m + 1]))) m++;
      if (m == l) break;
      double g = (d[l + 1] - d[l]) / (2 * e[l]);
      g = d[m] - d[l] + e[l] / (g + std::copysign(std::hypot(g, 1.0), g));
      double s = 1, c = 1, p = 0;
      for (size_t i = m; i-- > l;) {
        const double f = s * e[i], b = c * e[i], r = std::hypot(f, g);
        if (i + 1 < n) e[i + 1] = r;
        if (r == 0) {  // it splits here
          d[i + 1] -= p;
          e[m] = 0;
          break;
        }
        s = f / r, c = g / r;
        g = d[i + 1] - p;
        const double turned = (d[i] - g) * s + 2 * c * b;
        p = s * turned;
        d[i + 1] = g + p;
        g = c * turned - b;
        for (size_t k = 0; k < n; k++) {
          const double upper = t.q(i + 1, k), lower = t.q(i, k);
          t.q(i + 1, k) = s * lower + c * upper;
          t.q(i, k) = c * lower - s * upper;
        }
        if (i == l) {
          d[l] -= p;
          e[l] = g;
          if (m < n) e[m] = 0;
        }
      }
    }
  }
  return in_descending_order(d, t.q);
}

inline Spectrum eigen(const Matrix& a) {
  return a.rows > 40 ? eigen_by_tridiagonal(a) : eigen_by_jacobi(a);
}

}  // namespace kiln::tests::reference
