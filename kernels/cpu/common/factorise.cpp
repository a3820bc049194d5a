// Row-major storage is column-major storage of the transpose, so the QR factorisation of a row-major matrix
// is LAPACK's LQ factorisation of what it sees: no transposition, and the rows it makes orthonormal are our
// columns.
#include "kernels/cpu/common/factorise.h"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>

#include "kernels/cpu/common/libraries.h"

namespace kiln::kernels::cpu {
namespace {

lapack_int gelqf(int m, int n, float* a, int lda, float* tau, float* work, int lwork) {
  lapack_int info = 0;
  LAPACK_sgelqf(&m, &n, a, &lda, tau, work, &lwork, &info);
  return info;
}
lapack_int gelqf(int m, int n, double* a, int lda, double* tau, double* work, int lwork) {
  lapack_int info = 0;
  LAPACK_dgelqf(&m, &n, a, &lda, tau, work, &lwork, &info);
  return info;
}
lapack_int orglq(int m, int n, int k, float* a, int lda, const float* tau, float* work, int lwork) {
  lapack_int info = 0;
  LAPACK_sorglq(&m, &n, &k, a, &lda, tau, work, &lwork, &info);
  return info;
}
lapack_int orglq(int m, int n, int k, double* a, int lda, const double* tau, double* work, int lwork) {
  lapack_int info = 0;
  LAPACK_dorglq(&m, &n, &k, a, &lda, tau, work, &lwork, &info);
  return info;
}
// Column-major: only the lower triangle of `a` is read; eigenvectors overwrite it.
lapack_int syevd(int n, float* a, float* w, float* work, int lwork, lapack_int* iwork, int liwork) {
  lapack_int info = 0;
  LAPACK_ssyevd("V", "L", &n, a, &n, w, work, &lwork, iwork, &liwork, &info);
  return info;
}
lapack_int syevd(int n, double* a, double* w, double* work, int lwork, lapack_int* iwork, int liwork) {
  lapack_int info = 0;
  LAPACK_dsyevd("V", "L", &n, a, &n, w, work, &lwork, iwork, &liwork, &info);
  return info;
}

template <class T>
bool finite(const T* x, int64_t n) {
  T sum = 0;
  for (int64_t i = 0; i < n; i++) sum += x[i] * 0;  // NaN from any infinity or NaN
  return sum == 0;
}

// Computed exactly: LAPACK's query returns a float, which rounds large sizes down.
int64_t syevd_work(int64_t n) {
  return 1 + 6 * n + 2 * n * n;
}
int64_t syevd_integers(int64_t n) {
  return 3 + 5 * n;
}

// What one thread of a call gets: cut from one buffer for all of them.
class Stack {
 public:
  explicit Stack(char* base) : at_(base) {}
  template <class T>
  T* take(int64_t count) {
    T* p = reinterpret_cast<T*>(at_);
    at_ += Workspace::bytes_for<T>(count);
    return p;
  }

 private:
  char* at_;
};

// body(k, Stack) for each matrix, with `bytes` of scratch for each thread.
template <class Body>
void for_matrices(Context& context, int64_t count, size_t bytes, Body body) {
  libraries(context);
  Workspace::Scope scope(context.workspace);
  char* scratch = scope.take<char>(static_cast<int64_t>(bytes) * context.device.threads);
  context.pool->parallel_for(count, 1, [&](int64_t k, int64_t, int worker) {
    body(k, Stack(scratch + static_cast<int64_t>(bytes) * worker));
  });
}

// The leading `columns` columns of the full Q of the first `factored` columns of a, in place; a is (rows,
// columns).
template <class T>
bool householder(T* a, int64_t rows, int64_t columns, int64_t factored, T* tau, T* work, int64_t lwork) {
  const int m = static_cast<int>(rows), n = static_cast<int>(columns), k = static_cast<int>(factored);
  return gelqf(k, m, a, n, tau, work, static_cast<int>(lwork)) == 0 &&
         orglq(n, m, k, a, n, tau, work, static_cast<int>(lwork)) == 0 && finite(a, rows * columns);
}
constexpr int64_t kLapackBlock = 64;  // no smaller than the block size LAPACK would choose

template <class T>
size_t householder_bytes(int64_t columns) {  // tau and work
  return Workspace::bytes_for<T>(columns) + Workspace::bytes_for<T>(kLapackBlock * columns);
}
template <class T>
bool householder(T* a, int64_t rows, int64_t columns, int64_t factored, Stack& stack) {
  T* tau = stack.take<T>(columns);
  T* work = stack.take<T>(kLapackBlock * columns);
  return householder(a, rows, columns, factored, tau, work, kLapackBlock * columns);
}

// q = QR's q of a, which stays. Scratch: householder_in_turn_bytes.
int32_t householder_in_turn(float* q, const float* a, int64_t rows, int64_t cols, Stack stack) {
  const int64_t size = rows * cols;
  Stack first = stack;
  float* narrow = first.take<float>(size);
  std::copy_n(a, size, narrow);
  if (householder(narrow, rows, cols, cols, first)) {
    std::copy_n(narrow, size, q);
    return kFactorised;
  }
  double* wide = stack.take<double>(size);
  std::copy_n(a, size, wide);
  if (!householder(wide, rows, cols, cols, stack)) return kFailed;
  for (int64_t i = 0; i < size; i++) q[i] = static_cast<float>(wide[i]);
  return kRetried;
}
size_t householder_in_turn_bytes(int64_t rows, int64_t cols) {
  return Workspace::bytes_for<double>(rows * cols) + householder_bytes<double>(cols);
}

// One round of Cholesky QR in place: false where a^T a has no safe Cholesky factor; `a` is then as it was.
bool cholesky_round(float* a, int64_t rows, int64_t cols, float* gram) {
  const int m = static_cast<int>(rows), n = static_cast<int>(cols);
  cblas_ssyrk(CblasRowMajor, CblasLower, CblasTrans, n, m, 1.0f, a, n, 0.0f, gram, n);
  lapack_int info = 0;
  LAPACK_spotrf("U", &n, gram, &n, &info);  // the lower triangle of a row-major matrix
  if (info != 0) return false;
  float least = gram[0], most = gram[0];
  for (int64_t i = 0; i < cols; i++) {
    const float d = gram[i * cols + i];
    if (!std::isfinite(d)) return false;
    least = std::min(least, d);
    most = std::max(most, d);
  }
  if (least < 0.01f * most) return false;  // the second round could not repair what this one loses
  cblas_strsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, m, n, 1.0f, gram, n, a, n);
  return true;
}

struct Eigen {
  float* vectors;
  float* values;
};

template <class T>
bool eigen(T* vectors, T* values, int64_t n, Stack& stack) {
  T* work = stack.take<T>(syevd_work(n));
  auto* integers = stack.take<lapack_int>(syevd_integers(n));
  return syevd(static_cast<int>(n), vectors, values, work, static_cast<int>(syevd_work(n)), integers,
               static_cast<int>(syevd_integers(n))) == 0 &&
         finite(values, n) && finite(vectors, n * n);
}
size_t eigen_bytes(int64_t n) {  // the fp64 retry with its copies
  return Workspace::bytes_for<double>(n * n) + Workspace::bytes_for<double>(n) +
         Workspace::bytes_for<double>(syevd_work(n)) + Workspace::bytes_for<lapack_int>(syevd_integers(n));
}

int32_t eigen_in_turn(const Eigen& out, const float* s, int64_t n, Stack stack) {
  const bool sound = finite(s, n * n);
  Stack first = stack;
  std::copy_n(s, n * n, out.vectors);
  if (sound && eigen(out.vectors, out.values, n, first)) return kFactorised;
  double* vectors = stack.take<double>(n * n);
  double* values = stack.take<double>(n);
  std::copy_n(s, n * n, vectors);
  const bool worked = sound && eigen(vectors, values, n, stack);
  double mean = 0;
  for (int64_t i = 0; i < n; i++) mean += static_cast<double>(s[i * n + i]) / static_cast<double>(n);
  for (int64_t i = 0; i < n; i++) {
    out.values[i] = static_cast<float>(worked ? values[i] : sound ? mean : 1);
    for (int64_t j = 0; j < n; j++) {
      out.vectors[i * n + j] = worked ? static_cast<float>(vectors[i * n + j]) : i == j ? 1.0f : 0.0f;
    }
  }
  return worked ? kRetried : kFailed;
}

void leading_identity(float* q, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < columns; j++) q[i * columns + j] = i == j ? 1.0f : 0.0f;
  }
}

// SeedBases seen from its smaller side.
struct Seed {
  int64_t small, large;                  // sizes of the sides
  int64_t small_columns, large_columns;  // wanted of each basis; 0: none
  bool small_is_left;
};
Seed seed_of(const SeedBases& p) {
  const int64_t left_columns = p.wants_left ? p.rows : 0;
  if (p.rows <= p.cols) return {p.rows, p.cols, left_columns, p.right_cols, true};
  return {p.cols, p.rows, p.right_cols, left_columns, false};
}
size_t seed_bytes(const Seed& s) {
  const int64_t columns = std::max(s.large_columns, int64_t{1});
  return Workspace::bytes_for<double>(s.small * s.large) + Workspace::bytes_for<double>(s.large * columns) +
         householder_bytes<double>(columns) + eigen_bytes(s.small);
}

// Columns of the row-major `from` (rows, ld) in descending order of the eigenvalues that syevd gives in
// ascending order as rows.
void store_eigenvectors(float* to, const double* rows_ascending, int64_t n, int64_t columns) {
  for (int64_t j = 0; j < columns; j++) {
    for (int64_t i = 0; i < n; i++)
      to[i * columns + j] = static_cast<float>(rows_ascending[(n - 1 - j) * n + i]);
  }
}

// b (rows, columns): from the first column whose norm is below 1e-6 of the first one's on, all zero.
void clear_rounding(double* b, int64_t rows, int64_t columns, int64_t used) {
  double first = 0;
  for (int64_t j = 0; j < used; j++) {
    double norm = 0;
    for (int64_t i = 0; i < rows; i++) norm += b[i * columns + j] * b[i * columns + j];
    if (j == 0) first = norm;
    if (j > 0 && norm > 1e-12 * first) continue;
    if (j == 0 && norm > 0) continue;
    for (int64_t i = 0; i < rows; i++) {
      for (int64_t c = j; c < used; c++) b[i * columns + c] = 0;
    }
    return;
  }
}

bool seed(const SeedBases& p, const Seed& s, int64_t k, float* small_basis, float* large_basis, Stack stack) {
  const int small = static_cast<int>(s.small), large = static_cast<int>(s.large);
  double* g = stack.take<double>(s.small * s.large);  // (rows, cols), dense
  const int64_t ld = p.ld ? p.ld : p.cols;
  for (int64_t i = 0; i < p.rows; i++) std::copy_n(p.g[k] + i * ld, p.cols, g + i * p.cols);
  double* b = stack.take<double>(s.large * std::max(s.large_columns, int64_t{1}));
  double* vectors = stack.take<double>(s.small * s.small);
  double* values = stack.take<double>(s.small);
  const int cols = static_cast<int>(p.cols);
  cblas_dsyrk(CblasRowMajor, CblasUpper, s.small_is_left ? CblasNoTrans : CblasTrans, small, large, 1.0, g,
              cols, 0.0, vectors, small);
  Stack rest = stack;
  if (!eigen(vectors, values, s.small, rest)) return false;
  if (s.small_columns) store_eigenvectors(small_basis, vectors, s.small, s.small_columns);
  if (!s.large_columns) return true;
  // b = g^T V or g V: its first columns, descending; row i of `vectors` is eigenvector i, ascending.
  const int64_t used = std::min(s.small, s.large_columns);
  std::fill_n(b, s.large * s.large_columns, 0.0);
  const double* leading = vectors + (s.small - used) * s.small;  // ascending still
  cblas_dgemm(CblasRowMajor, s.small_is_left ? CblasTrans : CblasNoTrans, CblasTrans, large,
              static_cast<int>(used), small, 1.0, g, cols, leading, small, 0.0, b,
              static_cast<int>(s.large_columns));
  for (int64_t i = 0; i < s.large; i++) {
    double* row = b + i * s.large_columns;
    std::reverse(row, row + used);
  }
  clear_rounding(b, s.large, s.large_columns, used);
  rest = stack;
  if (!householder(b, s.large, s.large_columns, used, rest)) return false;
  for (int64_t i = 0; i < s.large * s.large_columns; i++) large_basis[i] = static_cast<float>(b[i]);
  return true;
}

}  // namespace

void matrix_qr(Context& context, const MatrixQr& p) {
  require(p.rows >= p.cols, "matrix_qr: more columns than rows");
  for_matrices(context, p.count, householder_in_turn_bytes(p.rows, p.cols), [&](int64_t k, Stack stack) {
    p.status[k] = p.cols ? householder_in_turn(p.q[k], p.a[k], p.rows, p.cols, stack) : kFactorised;
  });
}
size_t matrix_qr_workspace_bytes(const MatrixQr& p, const Device& device) {
  return Workspace::bytes_for<char>(static_cast<int64_t>(householder_in_turn_bytes(p.rows, p.cols)) *
                                    device.threads);
}

void matrix_orthonormalise(Context& context, const MatrixOrthonormalise& p) {
  require(p.rows >= p.cols, "matrix_orthonormalise: more columns than rows");
  for_matrices(context, p.count, householder_in_turn_bytes(p.rows, p.cols), [&](int64_t k, Stack stack) {
    p.status[k] = kFactorised;
    if (p.cols == 0) return;
    Stack cholesky = stack;
    float* gram = cholesky.take<float>(p.cols * p.cols);
    if (cholesky_round(p.a[k], p.rows, p.cols, gram) && cholesky_round(p.a[k], p.rows, p.cols, gram) &&
        finite(p.a[k], p.rows * p.cols)) {
      std::copy_n(p.a[k], p.rows * p.cols, p.q[k]);
    } else {
      p.status[k] = householder_in_turn(p.q[k], p.a[k], p.rows, p.cols, stack);
    }
  });
}
size_t matrix_orthonormalise_workspace_bytes(const MatrixOrthonormalise& p, const Device& device) {
  return Workspace::bytes_for<char>(static_cast<int64_t>(householder_in_turn_bytes(p.rows, p.cols)) *
                                    device.threads);
}

void matrix_eigen(Context& context, const MatrixEigen& p) {
  for_matrices(context, p.count, eigen_bytes(p.n), [&](int64_t k, Stack stack) {
    p.status[k] = p.n ? eigen_in_turn({p.vectors[k], p.values[k]}, p.s[k], p.n, stack) : kFactorised;
  });
}
size_t matrix_eigen_workspace_bytes(const MatrixEigen& p, const Device& device) {
  return Workspace::bytes_for<char>(static_cast<int64_t>(eigen_bytes(p.n)) * device.threads);
}

void seed_bases(Context& context, const SeedBases& p) {
  require(p.right_cols <= p.cols, "seed_bases: a basis has no more columns than its side");
  const Seed s = seed_of(p);
  for_matrices(context, p.count, seed_bytes(s), [&](int64_t k, Stack stack) {
    float* left = p.wants_left ? p.left[k] : nullptr;
    float* small_basis = s.small_is_left ? left : p.right[k];
    float* large_basis = s.small_is_left ? p.right[k] : left;
    p.status[k] = kFactorised;
    if (seed(p, s, k, small_basis, large_basis, stack)) return;
    p.status[k] = kFailed;
    if (left) leading_identity(left, p.rows, p.rows);
    leading_identity(p.right[k], p.cols, p.right_cols);
  });
}
size_t seed_bases_workspace_bytes(const SeedBases& p, const Device& device) {
  return Workspace::bytes_for<char>(static_cast<int64_t>(seed_bytes(seed_of(p))) * device.threads);
}

}  // namespace kiln::kernels::cpu
