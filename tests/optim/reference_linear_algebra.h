// Dense linear algebra in fp64, by the textbook: what the optimizers' references are written in. Shares
// nothing with optim/ or kernels/.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

namespace kiln::tests::reference {

struct Matrix {
  size_t rows = 0, cols = 0;
  std::vector<double> x;

  Matrix() = default;
  Matrix(size_t r, size_t c) : rows(r), cols(c), x(r * c, 0.0) {}
  Matrix(size_t r, size_t c, std::vector<double> values) : rows(r), cols(c), x(std::move(values)) {}
  double& operator()(size_t i, size_t j) { return x[i * cols + j]; }
  double operator()(size_t i, size_t j) const { return x[i * cols + j]; }
};

inline Matrix identity(size_t n, double value = 1) {
  Matrix out(n, n);
  for (size_t i = 0; i < n; i++) out(i, i) = value;
  return out;
}

inline Matrix transpose(const Matrix& a) {
  Matrix out(a.cols, a.rows);
  for (size_t i = 0; i < a.rows; i++) {
    for (size_t j = 0; j < a.cols; j++) out(j, i) = a(i, j);
  }
  return out;
}

inline Matrix operator*(const Matrix& a, const Matrix& b) {
  constexpr size_t kStep = 4;  // terms that are added to a row at a time
  Matrix out(a.rows, b.cols);
  for (size_t i = 0; i < a.rows; i++) {
    double* to = out.x.data() + i * b.cols;
    size_t k = 0;
    for (; k + kStep <= a.cols; k += kStep) {
      const double *f = a.x.data() + i * a.cols + k, *from = b.x.data() + k * b.cols;
      for (size_t j = 0; j < b.cols; j++) {
        to[j] += (f[0] * from[j] + f[1] * from[j + b.cols]) +
                 (f[2] * from[j + 2 * b.cols] + f[3] * from[j + 3 * b.cols]);
      }
    }
    for (; k < a.cols; k++) {
      for (size_t j = 0; j < b.cols; j++) to[j] += a(i, k) * b(k, j);
    }
  }
  return out;
}

inline Matrix operator*(double s, Matrix a) {
  for (double& v : a.x) v *= s;
  return a;
}
inline Matrix operator+(Matrix a, const Matrix& b) {
  for (size_t i = 0; i < a.x.size(); i++) a.x[i] += b.x[i];
  return a;
}
inline Matrix operator-(Matrix a, const Matrix& b) {
  for (size_t i = 0; i < a.x.size(); i++) a.x[i] -= b.x[i];
  return a;
}

inline double norm(const Matrix& a) {
  double sum = 0;
  for (double v : a.x) sum += v * v;
  return std::sqrt(sum);
}
inline double trace(const Matrix& a) {
  double sum = 0;
  for (size_t i = 0; i < a.rows; i++) sum += a(i, i);
  return sum;
}
inline double rms(const Matrix& a) {
  return norm(a) / std::sqrt(static_cast<double>(a.x.size()));
}

// The first `count` columns.
inline Matrix columns(const Matrix& a, size_t count) {
  Matrix out(a.rows, count);
  for (size_t i = 0; i < a.rows; i++) {
    for (size_t j = 0; j < count; j++) out(i, j) = a(i, j);
  }
  return out;
}

struct Spectrum {
  std::vector<double> values;  // descending
  Matrix vectors;              // as columns
};

// Cyclic Jacobi rotations.
inline Spectrum eigen(Matrix a) {
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
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t i, size_t j) { return a(i, i) > a(j, j); });
  Spectrum out{{}, Matrix(n, n)};
  for (size_t j = 0; j < n; j++) {
    out.values.push_back(a(order[j], order[j]));
    for (size_t i = 0; i < n; i++) out.vectors(i, j) = v(order[j], i);
  }
  return out;
}

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
      for (size_t c = j; c < a.cols; c++) {
        double dot = 0;
        for (size_t i = j; i < m; i++) dot += v[i] * a(i, c);
        for (size_t i = j; i < m; i++) a(i, c) -= dot * v[i];
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
