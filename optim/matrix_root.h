// s^(-1/2) of symmetric positive definite matrices, in three ways.
#pragma once

#include "kernels/matrix.h"
#include "src/device/context.h"

namespace kiln::optim {

// What went other than planned, since the program started.
struct Events {
  int64_t retried = 0;     // factorisations that fp32 could not do and fp64 could
  int64_t failed = 0;      // that neither could: a basis stays as it was, a root is taken of a multiple of I
  int64_t slow_roots = 0;  // Newton-Schulz roots that did not converge: an eigen-decomposition took over
  int64_t skipped_complements = 0;  // Pro-KLShampoo: there was nothing outside the subspace

  // Counts what a factorisation reported; nothing in a dry run.
  void count(const Context& context, const int32_t* status, int64_t count);
};

// out = q l^(-1/2) q^T for a basis that is kept: columns of q, eigenvalues l, floored as matrix.h says.
void eigenbasis_root(Context& context, kernels::Matrices out, kernels::ConstMatrices q,
                     kernels::ConstMatrices l, int64_t count, int64_t n);

// By an eigen-decomposition of s. `mean` as in kernels::MatrixScale.
void eigen_root(Context& context, kernels::Matrices out, kernels::ConstMatrices s, int64_t count, int64_t n,
                const double* mean, Events& events);

// By the coupled iteration from Y = s'/L, Z = I (kernels::RootStart): ten times P = Z Y; Y <- Y (a I + b P);
// Z <- (a I + b P) Z; then s^(-1/2) = Z / sqrt(L). Matrix products only. (a, b): the cubics of CANS, arXiv
// 2506.10935. Where ||I - Z Y||_F exceeds 1e-2 sqrt(n), an eigen-decomposition takes over, and is counted.
// Relative error in fp32 over condition numbers: docs/optimizers.md.
void newton_schulz_root(Context& context, kernels::Matrices out, kernels::ConstMatrices s, int64_t count,
                        int64_t n, Events& events);

}  // namespace kiln::optim
