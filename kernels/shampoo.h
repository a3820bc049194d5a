// What KL-Shampoo and Pro-KLShampoo do to each matrix besides linear algebra. Source: Lin et al., arXiv
// 2509.03378; Sun and Wei, arXiv 2605.06316; the formulas stand in optim/kl_shampoo.h and
// optim/pro_kl_shampoo.h. Batched as matrix.h is; eigenvalues that are inverted have that header's floor.
#pragma once

#include "kernels/matrix.h"

namespace kiln::kernels {

// x_ij <- x_ij / (sqrt(a_i b_j) + eps)
struct KlPrecondition {
  Matrices x;       // (rows, cols)
  ConstMatrices a;  // [rows], eigenvalues of the left factor
  ConstMatrices b;  // [cols], of the right one
  int64_t count, rows, cols;
  double eps;
  DType dtype = DType::f32;
};

// a_i <- b2 a_i + (1-b2) mean_j k_ij^2/b_j and b_j <- b2 b_j + (1-b2) mean_i k_ij^2/a_i, both from the old a
// and b; then a <- max(a, least_a), b <- max(b, least_b).
struct KlEigenvalues {
  Matrices a, b;    // [rows], [cols]
  ConstMatrices k;  // (rows, cols), the gradient in the bases
  int64_t count, rows, cols;
  double b2, least_a, least_b;
  DType dtype = DType::f32;
};

// Orthonormal bases from a first gradient g, computed in fp64: eigenvectors of the smaller of g g^T and g^T
// g, descending; for the other side the leading columns of the full Q of a Householder QR of g^T left (of g
// right if rows > cols). Columns of that product below 1e-6 of its first one are rounding: taken as zero, so
// that Q completes them. Without wants_left only the right side's is made. status: kFailed leaves the
// identity's leading columns.
struct SeedBases {
  Matrices left;    // (rows, rows)
  Matrices right;   // (cols, right_cols)
  ConstMatrices g;  // (rows, cols), rows ld apart; its scale does not matter
  int64_t count, rows, cols, right_cols;
  bool wants_left;
  int64_t ld = 0;  // 0: dense
  int32_t* status;
  DType dtype = DType::f32;
};

// l_i <- b2 l_i + (1-b2)/cols (sum_j inside_ij^2 + scale[k]^2 sum_j outside_ij^2)
struct ProEigenvalues {
  Matrices l;             // [rows]
  ConstMatrices inside;   // (rows, rank)
  ConstMatrices outside;  // (rows, cols)
  const double* scale;    // [count]
  int64_t count, rows, cols, rank;
  double b2;
  DType dtype = DType::f32;
};

// mean[k] = that of the spectrum of U S U^T + mu (I - U U^T); out[k] = max(mu, its floor)^(-1/2),
// or 0 where there is no tail, rank = cols
struct ProTailRoot {
  double *out, *mean;
  ConstMatrices mu;  // [1]
  ConstMatrices s;   // (rank, rank)
  int64_t count, cols, rank;
  DType dtype = DType::f32;
};

// How far the orthogonalised complement is scaled. `whole`, `complement`, `orthogonal`: squared Frobenius
// norms of X, of its complement, and of what Newton-Schulz made of that. out[k] = 0 where complement is
// nothing but rounding, sqrt(complement) <= 1e-5 sqrt(whole); otherwise `factor`, or with `graft`
// tail_root[k] sqrt(complement/orthogonal).
struct ProComplementScale {
  double* out;
  const double *whole, *complement, *orthogonal, *tail_root;
  int64_t count;
  bool graft;
  double factor;
  DType dtype = DType::f32;
};

// End of a tracker step. With b = U'^T U, `rotated` = b s b^T and `overlap` = b b^T:
// s' = rotated + mu (I - overlap); mu <- mu + (tr s - tr s')/(cols - rank); s <- s'. At rank = cols mu stays.
struct ProRotate {
  Matrices s;   // (rank, rank)
  Matrices mu;  // [1]
  ConstMatrices rotated, overlap;
  int64_t count, cols, rank;
  DType dtype = DType::f32;
};

// mu <- b2 mu + (1-b2) (whole[k] - inside[k])/(rows (cols - rank)); at rank = cols it stays
struct ProTail {
  Matrices mu;                   // [1]
  const double *whole, *inside;  // [count]
  int64_t count, rows, cols, rank;
  double b2;
  DType dtype = DType::f32;
};

}  // namespace kiln::kernels
