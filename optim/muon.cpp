#include "optim/muon.h"

#include <algorithm>
#include <cmath>

#include "kernels/table.h"
#include "optim/report.h"
#include "optim/slices.h"

namespace kiln::optim {

std::vector<StateSpec> Muon::state(int64_t rows, int64_t cols) const {
  return {{"m", rows, cols}};
}

void Muon::step(Context& context, const MatrixBatch& batch, const StepInfo& info) {
  const double m = static_cast<double>(batch.rows), n = static_cast<double>(batch.cols);
  const double scale = options_.scale == MuonScale::match_rms ? 0.2 * std::sqrt(std::max(m, n))
                                                              : std::sqrt(std::max(1.0, m / n));
  const double mu = options_.mu, fresh = (1 - mu) * info.gradient_scale;
  const int64_t temporaries = 4 * batch.rows * batch.cols * static_cast<int64_t>(sizeof(float));
  for_slices(
      context, batch, temporaries, [](int64_t) { return true; },
      [&](const Slice& s) {
        kernels::Matrices momentum = s.state[0];
        Scratch scratch(context);
        kernels::Matrices direction = scratch.matrices(s.count, s.rows * s.cols);  // N
        kernels::Matrices orthogonal = scratch.matrices(s.count, s.rows * s.cols);
        kernels::MatrixCombine mean{.out = momentum,
                                    .x = s.grad,
                                    .add = momentum,
                                    .count = s.count,
                                    .rows = s.rows,
                                    .cols = s.cols,
                                    .ld_x = s.ld,
                                    .alpha = fresh,
                                    .beta = mu};
        kernels::matrix_combine(context, mean);
        if (options_.nesterov) {
          mean.out = direction;  // the gradient once more, in front of the momentum
          kernels::matrix_combine(context, mean);
        } else {
          kernels::matrix_combine(
              context, {.out = direction, .x = momentum, .count = s.count, .rows = s.rows, .cols = s.cols});
        }
        newton_schulz(context, orthogonal, direction, s.count, s.rows, s.cols, *options_.set,
                      options_.factors);
        kernels::weight_update(context, {.param = s.param,
                                         .update = orthogonal,
                                         .count = s.count,
                                         .rows = s.rows,
                                         .cols = s.cols,
                                         .ld = s.ld,
                                         .lr = options_.lr * info.lr_multiplier,
                                         .scale = scale,
                                         .decay = options_.wd,
                                         .decay_first = true});
        if (info.metrics || context.dry_run) report_update(context, s, orthogonal, scale, info.metrics);
      });
}

}  // namespace kiln::optim
