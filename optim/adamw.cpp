#include "optim/adamw.h"

#include "kernels/table.h"

namespace kiln::optim {

std::vector<StateSpec> AdamW::state(int64_t rows, int64_t cols) const {
  return {{"m", rows, cols}, {"v", rows, cols}};
}

void AdamW::step(Context& context, const MatrixBatch& batch, const StepInfo& info) {
  // Element by element: a dense matrix is one run of numbers, a strided one is a run per row.
  const bool dense = batch.ld == batch.cols;
  const int64_t runs = dense ? 1 : batch.rows;
  const int64_t n = dense ? batch.rows * batch.cols : batch.cols;
  for (size_t k = 0; k < batch.names.size(); k++) {
    for (int64_t run = 0; run < runs; run++) {
      kernels::adamw_step(context, {.param = batch.param[k] + run * batch.ld,
                                    .m = batch.state[0][k] + run * batch.cols,
                                    .v = batch.state[1][k] + run * batch.cols,
                                    .gradient = batch.grad[k] + run * batch.ld,
                                    .n = n,
                                    .t = info.t,
                                    .lr = options_.lr * info.lr_multiplier,
                                    .b1 = options_.b1,
                                    .b2 = options_.b2,
                                    .eps = options_.eps,
                                    .weight_decay = options_.wd,
                                    .gradient_scale = info.gradient_scale,
                                    .dtype = DType::f32});
    }
  }
}

}  // namespace kiln::optim
