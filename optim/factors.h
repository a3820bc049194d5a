// Steps that the matrix optimizers share. Batches as in slices.h; m x n is a matrix's shape.
#pragma once

#include "optim/matrix_root.h"
#include "optim/slices.h"

namespace kiln::optim {

// M <- b1 M + (1-b1) scale G, with G the slice's gradients.
void average_gradient(Context& context, const Slice& slice, kernels::Matrices momentum, double b1,
                      double scale);

enum class Side : uint8_t { left, right };

// S <- keep S + add X X^T (left, S (rows, rows)) or keep S + add X^T X (right, S (cols, cols)), for X (rows, cols) with
// rows ld apart (0: dense). With keep = 0 the old S is not read. Half the work: S is symmetric.
struct FactorUpdate {
  kernels::Matrices s;
  kernels::ConstMatrices x;
  int64_t count, rows, cols;
  Side side;
  double keep, add;
  int64_t ld = 0;
};
void update_factor(Context& context, const FactorUpdate& p);

// Q <- qr(S Q), the refresh of an n x n basis; where the factorisation fails Q stays, and that is counted.
void power_step(Context& context, kernels::Matrices q, kernels::ConstMatrices s, int64_t count, int64_t n,
                Events& events);

}  // namespace kiln::optim
