#include "optim/adamw.h"

#include <fmt/format.h>

#include <cmath>

#include "kernels/table.h"
#include "src/device/scratch.h"

namespace kiln::optim {
namespace {

// "MATRIX.update_rms" (of what the learning rate multiplies) and "MATRIX.weight_rms" after a step. The update itself was
// never stored: it is computed once more from the moments, which are those of the step. In a dry run `metrics` may be null.
void report(Context& context, const AdamWOptions& options, const MatrixBatch& batch, size_t k,
            const StepInfo& info) {
  constexpr int64_t kRows = 64;  // that one thread adds up at a time
  const int64_t blocks = (batch.rows + kRows - 1) / kRows;
  Scratch scratch(context);
  double* updates = scratch.take<double>(blocks);
  double* weights = scratch.take<double>(blocks);
  if (context.dry_run) return;
  const double t = static_cast<double>(info.t), m_scale = 1 / (1 - std::pow(options.b1, t)),
               v_scale = 1 / (1 - std::pow(options.b2, t));
  context.pool->parallel_for(batch.rows, kRows, [&](int64_t first, int64_t end, int) {
    double update = 0, weight = 0;
    for (int64_t i = first; i < end; i++) {
      const float *w = batch.param[k] + i * batch.ld, *m = batch.state[0][k] + i * batch.cols,
                  *v = batch.state[1][k] + i * batch.cols;
      for (int64_t j = 0; j < batch.cols; j++) {
        const double moved = m_scale * m[j] / (std::sqrt(v_scale * v[j]) + options.eps);
        update += moved * moved;
        weight += static_cast<double>(w[j]) * w[j];
      }
    }
    updates[first / kRows] = update, weights[first / kRows] = weight;
  });
  const double elements = static_cast<double>(batch.rows * batch.cols);
  double update = 0, weight = 0;
  for (int64_t block = 0; block < blocks; block++) update += updates[block], weight += weights[block];
  info.metrics->record(fmt::format("{}.update_rms", batch.names[k]), std::sqrt(update / elements));
  info.metrics->record(fmt::format("{}.weight_rms", batch.names[k]), std::sqrt(weight / elements));
}

}  // namespace

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
    const bool matrix = batch.rows > 1 && batch.cols > 1;
    if (matrix && (context.dry_run || info.metrics)) report(context, options_, batch, k, info);
  }
}

}  // namespace kiln::optim
