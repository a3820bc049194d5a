#include "optim/kl_shampoo.h"

#include <algorithm>
#include <cmath>

#include "kernels/table.h"
#include "optim/factors.h"
#include "optim/seeding.h"
#include "src/core/error.h"

namespace kiln::optim {
namespace {

enum State : size_t { kM, kSa, kSb, kQa, kQb, kLa, kLb };

// The least eigenvalue that the published initialisation allows on a side of this size.
double least_eigenvalue(Init init, int64_t side) {
  if (init == Init::gradient) return 0;
  const double clamp = static_cast<double>(std::max<int64_t>(10, std::min<int64_t>(side, 4000)));
  return 1 / (clamp * clamp);
}

}  // namespace

KlShampoo::KlShampoo(const KlShampooOptions& options) : options_(options) {
  require(options.root == Root::eigenbasis || options.init == Init::gradient,
          "eigenvalues that start as a constant need the eigenbasis root");
}

std::vector<StateSpec> KlShampoo::state(int64_t rows, int64_t cols) const {
  std::vector<StateSpec> state = {{"m", rows, cols}, {"s_a", rows, rows}, {"s_b", cols, cols}};
  if (options_.root == Root::newton_schulz) return state;
  state.insert(state.end(), {{"q_a", rows, rows}, {"q_b", cols, cols}, {"l_a", 1, rows}, {"l_b", 1, cols}});
  return state;
}

void KlShampoo::step(Context& context, const MatrixBatch& batch, const StepInfo& info) {
  Scratch scratch(context);
  const Seeding seeding = find_seeded(context, scratch, batch, kSa, batch.rows);
  const int64_t larger = std::max(batch.rows, batch.cols);
  const int64_t temporaries =
      (3 * batch.rows * batch.cols + larger * larger) * static_cast<int64_t>(sizeof(float));
  // Matrices that step go first: those that are seeded now do not.
  for_slices(
      context, batch, temporaries, [&](int64_t k) { return seeding.ready(k); },
      [&](const Slice& s) {
        average_gradient(context, s, s.state[kM], options_.b1, info.gradient_scale);
        if (options_.root == Root::newton_schulz) {
          statistics_by_roots(context, s, info);
          update_by_roots(context, s, info);
        } else {
          update(context, s, info);
          statistics(context, s, info);
          if (context.dry_run || info.t % options_.refresh == 0) {
            const Stopwatch watch(times_.roots);
            power_step(context, s.state[kQa], s.state[kSa], s.count, s.rows, events_);
            power_step(context, s.state[kQb], s.state[kSb], s.count, s.cols, events_);
          }
        }
        if (context.dry_run || info.metrics) report_factors(context, s, info.metrics);
      });
  for_slices(
      context, batch, temporaries, [&](int64_t k) { return seeding.starts(k); },
      [&](const Slice& s) {
        Scratch part(context);
        double* squares = part.take<double>(s.count);
        kernels::matrix_squares(
            context,
            {.out = squares, .x = s.grad, .count = s.count, .rows = s.rows, .cols = s.cols, .ld = s.ld});
        seed(context, s, squares, info);
      });
  if (context.dry_run) times_ = {}, report_seconds_ = 0;  // planning is none of an optimizer's time
  if (info.metrics && !context.dry_run) {
    report_times(name(), batch, times_, *info.metrics);
    report_events(name(), events_, *info.metrics);
    report_tail_time(name(), batch, report_seconds_, *info.metrics);
  }
}

void KlShampoo::seed(Context& context, const Slice& s, const double* squares, const StepInfo& info) {
  const double m = static_cast<double>(s.rows), n = static_cast<double>(s.cols), scale = info.gradient_scale;
  const double rms = scale / std::sqrt(m * n);  // times the root of `squares`
  const auto fill = [&](size_t state, int64_t rows, int64_t cols, bool diagonal) {
    const bool constant = options_.init == Init::constant;
    kernels::matrix_fill(context, {.out = s.state[state],
                                   .count = s.count,
                                   .rows = rows,
                                   .cols = cols,
                                   .diagonal = diagonal,
                                   .alpha = constant ? 0.1 : rms,
                                   .value = constant ? nullptr : squares});
  };
  if (options_.root == Root::newton_schulz) {
    fill(kSa, s.rows, s.rows, true);
    fill(kSb, s.cols, s.cols, true);
    return;
  }
  update_factor(context, {.s = s.state[kSa],
                          .x = s.grad,
                          .count = s.count,
                          .rows = s.rows,
                          .cols = s.cols,
                          .side = Side::left,
                          .keep = 0,
                          .add = (1 - options_.b2) * scale * scale / n,
                          .ld = s.ld});
  update_factor(context, {.s = s.state[kSb],
                          .x = s.grad,
                          .count = s.count,
                          .rows = s.rows,
                          .cols = s.cols,
                          .side = Side::right,
                          .keep = 0,
                          .add = (1 - options_.b2) * scale * scale / m,
                          .ld = s.ld});
  Scratch scratch(context);
  int32_t* status = scratch.take<int32_t>(s.count);
  kernels::seed_bases(context, {.left = s.state[kQa],
                                .right = s.state[kQb],
                                .g = s.grad,
                                .count = s.count,
                                .rows = s.rows,
                                .cols = s.cols,
                                .right_cols = s.cols,
                                .wants_left = true,
                                .ld = s.ld,
                                .status = status});
  events_.count(context, status, s.count);
  fill(kLa, 1, s.rows, false);
  fill(kLb, 1, s.cols, false);
}

void KlShampoo::update(Context& context, const Slice& s, const StepInfo& info) {
  const Stopwatch watch(times_.update);
  const int64_t m = s.rows, n = s.cols;
  Scratch scratch(context);
  kernels::Matrices left = scratch.matrices(s.count, m * n);
  kernels::Matrices both = scratch.matrices(s.count, m * n);
  const auto product = [&](kernels::Matrices out, kernels::ConstMatrices a, kernels::ConstMatrices b,
                           int64_t K, bool a_transposed, bool b_transposed) {
    kernels::matrix_product(context, {.out = out,
                                      .a = a,
                                      .b = b,
                                      .count = s.count,
                                      .M = m,
                                      .N = n,
                                      .K = K,
                                      .a_transposed = a_transposed,
                                      .b_transposed = b_transposed});
  };
  product(left, s.state[kQa], s.state[kM], m, true, false);  // Q_a^T M
  product(both, left, s.state[kQb], n, false, false);        // (Q_a^T M) Q_b
  kernels::kl_precondition(context, {.x = both,
                                     .a = s.state[kLa],
                                     .b = s.state[kLb],
                                     .count = s.count,
                                     .rows = m,
                                     .cols = n,
                                     .eps = options_.eps});
  product(left, s.state[kQa], both, m, false, false);  // Q_a (...)
  product(both, left, s.state[kQb], n, false, true);   // Q_a (...) Q_b^T
  apply(context, s, both, info);
}

void KlShampoo::apply(Context& context, const Slice& s, kernels::ConstMatrices direction,
                      const StepInfo& info) {
  kernels::weight_update(context, {.param = s.param,
                                   .update = direction,
                                   .count = s.count,
                                   .rows = s.rows,
                                   .cols = s.cols,
                                   .ld = s.ld,
                                   .lr = options_.lr * info.lr_multiplier,
                                   .scale = 1,
                                   .decay = options_.wd,
                                   .decay_first = false});
  if (context.dry_run || info.metrics) report_update(context, s, direction, 1, info.metrics);
}

void KlShampoo::report_factors(Context& context, const Slice& s, MetricSink* metrics) {
  if (!context.dry_run && options_.root == Root::eigenbasis) {
    report_range(s, "left_eigenvalue", s.state[kLa], s.rows, *metrics);
    report_range(s, "right_eigenvalue", s.state[kLb], s.cols, *metrics);
  }
  if (options_.tail_rank == 0) return;
  const Stopwatch watch(report_seconds_);
  report_tail(context, s, "left_tail_gap", s.state[kSa], s.rows, options_.tail_rank, metrics);
  report_tail(context, s, "right_tail_gap", s.state[kSb], s.cols, options_.tail_rank, metrics);
}

void KlShampoo::statistics(Context& context, const Slice& s, const StepInfo& info) {
  const Stopwatch watch(times_.statistics);
  const int64_t m = s.rows, n = s.cols;
  const double scale = info.gradient_scale, fresh = 1 - options_.b2;
  Scratch scratch(context);
  kernels::Matrices left = scratch.matrices(s.count, m * n);   // Q_a^T G
  kernels::Matrices right = scratch.matrices(s.count, m * n);  // G Q_b
  kernels::Matrices both = scratch.matrices(s.count, m * n);   // K
  kernels::matrix_product(context, {.out = left,
                                    .a = s.state[kQa],
                                    .b = s.grad,
                                    .count = s.count,
                                    .M = m,
                                    .N = n,
                                    .K = m,
                                    .ldb = s.ld,
                                    .a_transposed = true,
                                    .alpha = scale});
  kernels::matrix_product(context, {.out = right,
                                    .a = s.grad,
                                    .b = s.state[kQb],
                                    .count = s.count,
                                    .M = m,
                                    .N = n,
                                    .K = n,
                                    .lda = s.ld,
                                    .alpha = scale});
  kernels::matrix_product(
      context, {.out = both, .a = left, .b = s.state[kQb], .count = s.count, .M = m, .N = n, .K = n});
  kernels::matrix_scale(context, {.out = right,
                                  .x = right,
                                  .l = s.state[kLb],
                                  .count = s.count,
                                  .rows = m,
                                  .cols = n,
                                  .along = kernels::Along::columns,
                                  .power = -0.5});
  kernels::matrix_scale(context, {.out = left,
                                  .x = left,
                                  .l = s.state[kLa],
                                  .count = s.count,
                                  .rows = m,
                                  .cols = n,
                                  .along = kernels::Along::rows,
                                  .power = -0.5});
  update_factor(context, {.s = s.state[kSa],
                          .x = right,
                          .count = s.count,
                          .rows = s.rows,
                          .cols = s.cols,
                          .side = Side::left,
                          .keep = options_.b2,
                          .add = fresh / static_cast<double>(n)});
  update_factor(context, {.s = s.state[kSb],
                          .x = left,
                          .count = s.count,
                          .rows = s.rows,
                          .cols = s.cols,
                          .side = Side::right,
                          .keep = options_.b2,
                          .add = fresh / static_cast<double>(m)});
  kernels::kl_eigenvalues(context, {.a = s.state[kLa],
                                    .b = s.state[kLb],
                                    .k = both,
                                    .count = s.count,
                                    .rows = m,
                                    .cols = n,
                                    .b2 = options_.b2,
                                    .least_a = least_eigenvalue(options_.init, m),
                                    .least_b = least_eigenvalue(options_.init, n)});
}

void KlShampoo::statistics_by_roots(Context& context, const Slice& s, const StepInfo& info) {
  const int64_t m = s.rows, n = s.cols;
  const double scale = info.gradient_scale, fresh = 1 - options_.b2;
  Scratch scratch(context);
  kernels::Matrices root_a = scratch.matrices(s.count, m * m), root_b = scratch.matrices(s.count, n * n);
  {
    const Stopwatch watch(times_.roots);
    newton_schulz_root(context, root_a, s.state[kSa], s.count, m, events_);
    newton_schulz_root(context, root_b, s.state[kSb], s.count, n, events_);
  }
  const Stopwatch watch(times_.statistics);
  kernels::Matrices whitened = scratch.matrices(s.count, m * n);
  kernels::matrix_product(context, {.out = whitened,
                                    .a = s.grad,
                                    .b = root_b,
                                    .count = s.count,
                                    .M = m,
                                    .N = n,
                                    .K = n,
                                    .lda = s.ld,
                                    .alpha = scale});
  update_factor(context, {.s = s.state[kSa],
                          .x = whitened,
                          .count = s.count,
                          .rows = s.rows,
                          .cols = s.cols,
                          .side = Side::left,
                          .keep = options_.b2,
                          .add = fresh / static_cast<double>(n)});
  kernels::matrix_product(context, {.out = whitened,
                                    .a = root_a,
                                    .b = s.grad,
                                    .count = s.count,
                                    .M = m,
                                    .N = n,
                                    .K = m,
                                    .ldb = s.ld,
                                    .alpha = scale});
  update_factor(context, {.s = s.state[kSb],
                          .x = whitened,
                          .count = s.count,
                          .rows = s.rows,
                          .cols = s.cols,
                          .side = Side::right,
                          .keep = options_.b2,
                          .add = fresh / static_cast<double>(m)});
}

void KlShampoo::update_by_roots(Context& context, const Slice& s, const StepInfo& info) {
  const int64_t m = s.rows, n = s.cols;
  Scratch scratch(context);
  kernels::Matrices root_a = scratch.matrices(s.count, m * m), root_b = scratch.matrices(s.count, n * n);
  {
    const Stopwatch watch(times_.roots);
    newton_schulz_root(context, root_a, s.state[kSa], s.count, m, events_);
    newton_schulz_root(context, root_b, s.state[kSb], s.count, n, events_);
  }
  const Stopwatch watch(times_.update);
  kernels::Matrices left = scratch.matrices(s.count, m * n), direction = scratch.matrices(s.count, m * n);
  kernels::matrix_product(
      context, {.out = left, .a = root_a, .b = s.state[kM], .count = s.count, .M = m, .N = n, .K = m});
  kernels::matrix_product(
      context, {.out = direction, .a = left, .b = root_b, .count = s.count, .M = m, .N = n, .K = n});
  apply(context, s, direction, info);
}

}  // namespace kiln::optim
