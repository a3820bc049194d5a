#include "optim/seeding.h"

#include "kernels/table.h"

namespace kiln::optim {

Seeding find_seeded(Context& context, Scratch& scratch, const MatrixBatch& batch, size_t factor, int64_t n) {
  Seeding seeding{scratch.take<bool>(batch.count()), scratch.take<double>(batch.count())};
  bool all = !context.dry_run;
  for (int64_t k = 0; !context.dry_run && k < batch.count(); k++) {
    const float* s = batch.state[factor][static_cast<size_t>(k)];
    double trace = 0;
    for (int64_t i = 0; i < n; i++) trace += s[i * n + i];
    seeding.seeded[k] = trace > 0;
    all = all && seeding.seeded[k];
  }
  if (all) return seeding;
  kernels::matrix_squares(context, {.out = seeding.squares,
                                    .x = batch.grad.data(),
                                    .count = batch.count(),
                                    .rows = batch.rows,
                                    .cols = batch.cols,
                                    .ld = batch.ld});
  return seeding;
}

}  // namespace kiln::optim
