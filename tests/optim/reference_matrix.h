// Dense matrices in fp64 and their arithmetic: what the optimizers' references are written in. Shares nothing with optim/
// or kernels/.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
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

}  // namespace kiln::tests::reference
