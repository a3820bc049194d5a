#include "optim/factors.h"

#include "kernels/table.h"

namespace kiln::optim {

void average_gradient(Context& context, const Slice& s, kernels::Matrices momentum, double b1, double scale) {
  kernels::matrix_combine(context, {.out = momentum,
                                    .x = s.grad,
                                    .add = momentum,
                                    .count = s.count,
                                    .rows = s.rows,
                                    .cols = s.cols,
                                    .ld_x = s.ld,
                                    .alpha = (1 - b1) * scale,
                                    .beta = b1});
}

void update_factor(Context& context, const FactorUpdate& p) {
  const bool left = p.side == Side::left;
  const int64_t n = left ? p.rows : p.cols;
  kernels::matrix_product(context, {.out = p.s,
                                    .a = p.x,
                                    .b = p.x,
                                    .add = p.keep != 0 ? p.s : nullptr,
                                    .count = p.count,
                                    .M = n,
                                    .N = n,
                                    .K = left ? p.cols : p.rows,
                                    .lda = p.ld,
                                    .ldb = p.ld,
                                    .a_transposed = !left,
                                    .b_transposed = left,
                                    .symmetric = true,
                                    .alpha = p.add,
                                    .beta = p.keep});
}

void power_step(Context& context, kernels::Matrices q, kernels::ConstMatrices s, int64_t count, int64_t n,
                Events& events) {
  Scratch scratch(context);
  kernels::Matrices turned = scratch.matrices(count, n * n);
  int32_t* status = scratch.take<int32_t>(count);
  kernels::matrix_product(context, {.out = turned, .a = s, .b = q, .count = count, .M = n, .N = n, .K = n});
  kernels::matrix_qr(context, {.q = q, .a = turned, .count = count, .rows = n, .cols = n, .status = status});
  events.count(context, status, count);
}

}  // namespace kiln::optim
