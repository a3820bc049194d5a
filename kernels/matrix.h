// Linear algebra of the matrix optimizers, batched: every call works on `count` matrices of one shape, given
// by tables of pointers, so that they need not lie together. Matrices are row-major fp32 and dense unless a
// stride is given. Sums of many terms that steer a whole matrix (norms, traces, means) are taken in fp64.
// Nothing depends on the number of threads.
//
// The factorisations come from LAPACK. One that fails in fp32 (not finite, not converged) is retried in fp64;
// what happened to each matrix is written to `status`.
#pragma once

#include <cstdint>

#include "src/core/dtype.h"
#include "src/device/device.h"

namespace kiln::kernels {

using Matrices = float* const*;             // [count]
using ConstMatrices = const float* const*;  // [count]

enum Status : int32_t {
  kFactorised = 0,
  kRetried = 1,  // fp32 failed, fp64 did not
  kFailed = 2,   // both failed: MatrixQr and MatrixOrthonormalise keep their output, the others say what it is
};

// out = alpha a b + beta add, where a is (M, K) and b is (K, N) after transposition. `out` may be `add`, but
// neither factor. K = 0 leaves beta add.
struct MatrixProduct {
  Matrices out;                 // (M, N), dense
  ConstMatrices a, b;           // a_transposed: stored as (K, M); b_transposed: stored as (N, K)
  ConstMatrices add = nullptr;  // (M, N), dense; null: nothing is added
  int64_t count;
  int64_t M, N, K;
  int64_t lda = 0, ldb = 0;  // elements between stored rows; 0: dense
  bool a_transposed = false, b_transposed = false;
  bool symmetric = false;  // M = N, and the caller knows that the result and `add` are symmetric: half the
                           // products are computed, and the result is symmetric to the bit
  double alpha = 1, beta = 0;
  DType dtype = DType::f32;  // what the factors are rounded to before they are multiplied; sums are fp32
};

// Whether products of bf16 factors are faster than fp32 on this device (where not, they are not implemented).
bool has_bf16_products(const Device& device);

// out = alpha scale[k] x + beta add; with x_transposed, x is stored as (cols, rows).
struct MatrixCombine {
  Matrices out;                 // (rows, cols), rows ld_out apart
  ConstMatrices x;              // rows ld_x apart
  ConstMatrices add = nullptr;  // (rows, cols), rows ld_add apart; may be `out`; null: nothing is added
  int64_t count, rows, cols;
  int64_t ld_out = 0, ld_x = 0, ld_add = 0;  // 0: dense
  double alpha = 1, beta = 0;
  const double* scale = nullptr;  // [count]; null: 1
  bool x_transposed = false;
  DType dtype = DType::f32;
};

// out = x / (safety ||x||_F + 1e-7); with x_transposed, x is stored as (cols, rows).
struct MatrixNormalise {
  Matrices out;     // (rows, cols)
  ConstMatrices x;  // dense
  int64_t count, rows, cols;
  double safety;
  bool x_transposed = false;
  DType dtype = DType::f32;
};

// out[k] = sum of the squares of matrix k
struct MatrixSquares {
  double* out;
  ConstMatrices x;  // rows ld apart
  int64_t count, rows, cols;
  int64_t ld = 0;  // 0: dense
  DType dtype = DType::f32;
};

// Wherever eigenvalues are inverted they are replaced by max(l, 1e-10 mean(l)): without this floor, rounding
// in directions that gradients never had is amplified to full size.
inline constexpr double kSpectrumFloor = 1e-10;

enum class Along : uint8_t { rows, columns };

// x_ij <- x_ij f_i (along rows) or x_ij f_j (columns), f = max(l, floor)^power; power is -1, -1/2 or -1/4.
struct MatrixScale {
  Matrices out;  // (rows, cols); may be x
  ConstMatrices x;
  ConstMatrices l;  // [rows] or [cols]
  int64_t count, rows, cols;
  Along along;
  double power;
  const double* mean = nullptr;  // [count], where the floor is to be that of a spectrum of which l is a part
  DType dtype = DType::f32;
};

// Decay and update of weights. With decay_first W <- (1 - lr decay) W - lr scale u, otherwise W <- W - lr
// scale u, then W <- W - lr decay W.
struct WeightUpdate {
  Matrices param;        // (rows, cols), rows ld apart
  ConstMatrices update;  // (rows, cols), dense; update_transposed: stored as (cols, rows)
  int64_t count, rows, cols;
  int64_t ld = 0;  // 0: dense
  double lr, scale, decay;
  bool decay_first;
  bool update_transposed = false;
  DType dtype = DType::f32;
};

// out_ii = alpha sqrt(value[k]), the rest 0; without `diagonal` all elements are that number. value null:
// alpha.
struct MatrixFill {
  Matrices out;
  int64_t count, rows, cols;
  bool diagonal;
  double alpha;
  const double* value = nullptr;
  DType dtype = DType::f32;
};

// q = the orthonormal factor of a = Q R by Householder reflections (LAPACK gelqf of the transpose, which is
// what row-major storage looks like to it). Columns may change sign against other implementations.
struct MatrixQr {
  Matrices q;  // (rows, cols), dense; kept where the factorisation fails
  Matrices a;  // (rows, cols), rows >= cols; overwritten
  int64_t count, rows, cols;
  int32_t* status;  // [count]
  DType dtype = DType::f32;
};

// q as MatrixQr computes it, by Cholesky QR done twice (Yamamoto et al. 2015), which is matrix products
// nearly alone. Where a condition number above some 100 makes that inaccurate, Householder QR takes over.
struct MatrixOrthonormalise {
  Matrices q;  // (rows, cols), dense; kept where both fail
  Matrices a;  // (rows, cols), rows >= cols; overwritten
  int64_t count, rows, cols;
  int32_t* status;  // [count]; Householder QR as the second choice is not a retry
  DType dtype = DType::f32;
};

// s = V^T diag(l) V: row i of V is an eigenvector of eigenvalue l_i, ascending (LAPACK syevd). Where it fails
// the outputs become those of mean(diag s) I (of I, where s is not finite): its root treats all directions
// alike.
struct MatrixEigen {
  Matrices vectors;  // (n, n)
  Matrices values;   // [n]
  ConstMatrices s;   // (n, n), symmetric
  int64_t count, n;
  int32_t* status;  // [count]
  DType dtype = DType::f32;
};

// Start of the coupled Newton-Schulz iteration for s^(-1/2), see optim/matrix_root.h: with s' = s + ridge I,
// ridge = 1e-6 tr(s)/n, and L = 1.01 times an upper bound of the largest eigenvalue of s': y = s'/L,
// inverse_root[k] = L^(-1/2). The bound is the smaller of Wolkowicz and Styan's, tr/n + sqrt((n-1)
// (||s'||_F^2/n - (tr/n)^2)), and Collatz and Wielandt's, max_i (|s'| d)_i/d_i with d the row sums of |s'|.
struct RootStart {
  Matrices y;
  double* inverse_root;  // [count]
  ConstMatrices s;       // (n, n), symmetric, positive definite
  int64_t count, n;
  DType dtype = DType::f32;
};

// out[k] = ||I - x||_F
struct IdentityDistance {
  double* out;
  ConstMatrices x;  // (n, n)
  int64_t count, n;
  DType dtype = DType::f32;
};

}  // namespace kiln::kernels
