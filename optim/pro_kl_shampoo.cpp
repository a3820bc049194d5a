#include "optim/pro_kl_shampoo.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/table.h"
#include "optim/factors.h"
#include "optim/seeding.h"

namespace kiln::optim {
namespace {

enum State : size_t { kM, kSa, kU, kS, kMu, kQa, kLa };

using kernels::ConstMatrices;
using kernels::Matrices;

// out = alpha a b + beta add, dense
struct Product {
  Matrices out;
  ConstMatrices a, b;
  int64_t M, N, K;
  bool a_transposed = false, b_transposed = false, symmetric = false;
  double alpha = 1;
  ConstMatrices add = nullptr;
  double beta = 0;
};
void multiply(Context& context, const Slice& s, const Product& p) {
  kernels::matrix_product(context, {.out = p.out,
                                    .a = p.a,
                                    .b = p.b,
                                    .add = p.add,
                                    .count = s.count,
                                    .M = p.M,
                                    .N = p.N,
                                    .K = p.K,
                                    .a_transposed = p.a_transposed,
                                    .b_transposed = p.b_transposed,
                                    .symmetric = p.symmetric,
                                    .alpha = p.alpha,
                                    .beta = p.beta});
}

// out = x - inside u^T: what lies outside of span(u), where inside = x u.
void project(Context& context, const Slice& s, Matrices out, ConstMatrices x, ConstMatrices inside,
             ConstMatrices u, int64_t m, int64_t n, int64_t r) {
  multiply(context, s,
           {.out = out,
            .a = inside,
            .b = u,
            .M = m,
            .N = n,
            .K = r,
            .b_transposed = true,
            .alpha = -1,
            .add = x,
            .beta = 1});
}

const double* squares(Context& context, Scratch& scratch, const Slice& s, ConstMatrices x, int64_t rows,
                      int64_t cols) {
  double* out = scratch.take<double>(s.count);
  kernels::matrix_squares(context, {.out = out, .x = x, .count = s.count, .rows = rows, .cols = cols});
  return out;
}

}  // namespace

ProKlShampoo::Shape ProKlShampoo::shape(int64_t rows, int64_t cols) const {
  const bool transposed = options_.orientation == Orientation::larger && rows > cols;
  const int64_t m = transposed ? cols : rows, n = transposed ? rows : cols;
  return {m, n, std::min(options_.rank, n), transposed};
}

std::vector<StateSpec> ProKlShampoo::state(int64_t rows, int64_t cols) const {
  const auto [m, n, r, transposed] = shape(rows, cols);
  std::vector<StateSpec> state = {{"m", rows, cols}, {"s_a", m, m}, {"u", n, r}, {"s", r, r}, {"mu", 1, 1}};
  if (options_.root == Root::eigenbasis) state.insert(state.end(), {{"q_a", m, m}, {"l_a", 1, m}});
  if (options_.tracker == Tracker::accumulate) state.push_back({"y", n, r});
  return state;
}

void ProKlShampoo::step(Context& context, const MatrixBatch& batch, const StepInfo& info) {
  const auto [m, n, r, transposed] = shape(batch.rows, batch.cols);
  Scratch scratch(context);
  const Seeding seeding = find_seeded(context, scratch, batch, kSa, m);
  const int64_t temporaries = (4 * m * n + 3 * m * m + 4 * n * r) * static_cast<int64_t>(sizeof(float));
  // Matrices that step go first: those that are seeded now do not.
  for_slices(
      context, batch, temporaries, [&](int64_t k) { return seeding.ready(k); },
      [&](const Slice& s) {
        average_gradient(context, s, s.state[kM], options_.b1, info.gradient_scale);
        if (options_.root == Root::eigenbasis) {
          Scratch part(context);
          const Roots old = roots(context, part, s);
          update(context, s, old, info);
          statistics(context, s, old, info);
          if (context.dry_run || info.t % options_.refresh == 0) {
            const Stopwatch watch(times_.roots);
            power_step(context, s.state[kQa], s.state[kSa], s.count, m, events_);
          }
        } else {
          {
            Scratch part(context);
            statistics(context, s, roots(context, part, s), info);
          }
          Scratch part(context);
          update(context, s, roots(context, part, s), info);
        }
        if (context.dry_run || info.metrics) report(context, s, info.metrics);
      });
  for_slices(
      context, batch, temporaries, [&](int64_t k) { return seeding.starts(k); },
      [&](const Slice& s) { seed(context, s, info); });
  if (context.dry_run) times_ = {};  // planning is none of an optimizer's time
  if (info.metrics && !context.dry_run) {
    report_times(name(), batch, times_, *info.metrics);
    report_events(name(), events_, *info.metrics);
    info.metrics->record("pro-kl-shampoo.skipped_complements",
                         static_cast<double>(events_.skipped_complements));
  }
}

// out = scale x in the orientation in which the restricted side is that of the columns; x is shaped like W.
void ProKlShampoo::oriented(Context& context, const Slice& s, Matrices out, ConstMatrices x, int64_t ld,
                            double scale) const {
  const auto [m, n, r, transposed] = shape(s.rows, s.cols);
  kernels::matrix_combine(context, {.out = out,
                                    .x = x,
                                    .count = s.count,
                                    .rows = m,
                                    .cols = n,
                                    .ld_x = ld,
                                    .alpha = scale,
                                    .x_transposed = transposed});
}

void ProKlShampoo::seed(Context& context, const Slice& s, const StepInfo& info) {
  const auto [m, n, r, transposed] = shape(s.rows, s.cols);
  Scratch scratch(context);
  Matrices gradient = scratch.matrices(s.count, m * n);
  oriented(context, s, gradient, s.grad, s.ld, info.gradient_scale);
  const double* sum = squares(context, scratch, s, gradient, m, n);
  const double rms = 1 / std::sqrt(static_cast<double>(m * n));  // times the root of `sum`
  const auto fill = [&](size_t state, int64_t rows, int64_t cols, double alpha, const double* value,
                        bool diagonal) {
    kernels::matrix_fill(context, {.out = s.state[state],
                                   .count = s.count,
                                   .rows = rows,
                                   .cols = cols,
                                   .diagonal = diagonal,
                                   .alpha = alpha,
                                   .value = value});
  };
  fill(kSa, m, m, rms, sum, true);
  fill(kS, r, r, rms, sum, true);
  fill(kMu, 1, 1, rms, sum, false);
  if (options_.root == Root::eigenbasis) {
    fill(kQa, m, m, 1, nullptr, true);
    fill(kLa, 1, m, rms, sum, false);
  }
  if (r == 0) return;
  int32_t* status = scratch.take<int32_t>(s.count);
  kernels::seed_bases(context, {.left = nullptr,
                                .right = s.state[kU],
                                .g = gradient,
                                .count = s.count,
                                .rows = m,
                                .cols = n,
                                .right_cols = r,
                                .wants_left = false,
                                .status = status});
  events_.count(context, status, s.count);
  if (options_.tracker == Tracker::accumulate) {
    multiply(context, s,
             {.out = s.state[sum_index()], .a = s.state[kU], .b = s.state[kS], .M = n, .N = r, .K = r});
  }
}

ProKlShampoo::Roots ProKlShampoo::roots(Context& context, Scratch& scratch, const Slice& s) {
  const Stopwatch watch(times_.roots);
  const auto [m, n, r, transposed] = shape(s.rows, s.cols);
  double* tail = scratch.take<double>(s.count);
  double* mean = scratch.take<double>(s.count);
  const Roots roots{scratch.matrices(s.count, m * m), scratch.matrices(s.count, r * r), tail};
  kernels::pro_tail_root(context, {.out = tail,
                                   .mean = mean,
                                   .mu = s.state[kMu],
                                   .s = s.state[kS],
                                   .count = s.count,
                                   .cols = n,
                                   .rank = r});
  if (options_.root == Root::eigenbasis) {
    eigenbasis_root(context, roots.left, s.state[kQa], s.state[kLa], s.count, m);
    eigen_root(context, roots.core, s.state[kS], s.count, r, mean, events_);
  } else {
    newton_schulz_root(context, roots.left, s.state[kSa], s.count, m, events_);
    newton_schulz_root(context, roots.core, s.state[kS], s.count, r, events_);
  }
  return roots;
}

void ProKlShampoo::update(Context& context, const Slice& s, const Roots& roots, const StepInfo& info) {
  const auto [m, n, r, transposed] = shape(s.rows, s.cols);
  Scratch scratch(context);
  Matrices direction = scratch.matrices(s.count, m * n);
  Matrices whitened = scratch.matrices(s.count, m * n);  // X
  Matrices inside = scratch.matrices(s.count, m * r);    // X U
  Matrices scaled = scratch.matrices(s.count, m * r);    // X U S^(-1/2)
  {
    const Stopwatch watch(times_.update);
    multiply(context, s,
             {.out = whitened,
              .a = roots.left,
              .b = s.state[kM],
              .M = m,
              .N = n,
              .K = m,
              .b_transposed = transposed});
    multiply(context, s, {.out = inside, .a = whitened, .b = s.state[kU], .M = m, .N = r, .K = n});
    multiply(context, s, {.out = scaled, .a = inside, .b = roots.core, .M = m, .N = r, .K = r});
    multiply(context, s,
             {.out = direction, .a = scaled, .b = s.state[kU], .M = m, .N = n, .K = r, .b_transposed = true});
  }
  if (r < n) {
    add_complement(context, s, roots, direction, whitened, inside);
  } else if (!context.dry_run) {
    events_.skipped_complements += s.count;
  }
  const Stopwatch watch(times_.update);
  kernels::weight_update(context, {.param = s.param,
                                   .update = direction,
                                   .count = s.count,
                                   .rows = s.rows,
                                   .cols = s.cols,
                                   .ld = s.ld,
                                   .lr = options_.lr * info.lr_multiplier,
                                   .scale = 1,
                                   .decay = options_.wd,
                                   .decay_first = false,
                                   .update_transposed = transposed});
  if (context.dry_run || info.metrics) report_update(context, s, direction, 1, info.metrics);
}

// direction += D_2; whitened becomes scratch.
void ProKlShampoo::add_complement(Context& context, const Slice& s, const Roots& roots, Matrices direction,
                                  Matrices whitened, Matrices inside) {
  const Stopwatch watch(times_.complement);
  const auto [m, n, r, transposed] = shape(s.rows, s.cols);
  Scratch scratch(context);
  const double* whole = squares(context, scratch, s, whitened, m, n);
  project(context, s, whitened, whitened, inside, s.state[kU], m, n, r);
  const double* outside = squares(context, scratch, s, whitened, m, n);
  const double* length = outside;  // of what will be added, before it is scaled
  Matrices complement = whitened;
  if (options_.complement != Complement::isotropic) {
    if (options_.complement == Complement::polar) {
      oriented(context, s, whitened, s.state[kM], 0, 1);
      multiply(context, s, {.out = inside, .a = whitened, .b = s.state[kU], .M = m, .N = r, .K = n});
      project(context, s, whitened, whitened, inside, s.state[kU], m, n, r);
    }
    complement = scratch.matrices(s.count, m * n);
    newton_schulz(context, complement, whitened, s.count, m, n, *options_.set, options_.factors);
    // Rounding inside span(U) was amplified to full size.
    multiply(context, s, {.out = inside, .a = complement, .b = s.state[kU], .M = m, .N = r, .K = n});
    project(context, s, complement, complement, inside, s.state[kU], m, n, r);
    length = squares(context, scratch, s, complement, m, n);
  }
  const double size = std::sqrt(static_cast<double>(std::max(m, n - r)));
  const double matched = std::sqrt((1 - options_.b1) / (1 + options_.b1));
  const bool fixed = options_.scale == ComplementScale::fixed;
  double* scale = scratch.take<double>(s.count);
  kernels::pro_complement_scale(context, {.out = scale,
                                          .whole = whole,
                                          .complement = outside,
                                          .orthogonal = length,
                                          .tail_root = roots.tail,
                                          .count = s.count,
                                          .graft = options_.scale == ComplementScale::graft ||
                                                   options_.complement == Complement::isotropic,
                                          .factor = (fixed ? options_.complement_factor : matched) * size});
  for (int64_t k = 0; !context.dry_run && k < s.count; k++) events_.skipped_complements += scale[k] == 0;
  kernels::matrix_combine(context, {.out = direction,
                                    .x = complement,
                                    .add = direction,
                                    .count = s.count,
                                    .rows = m,
                                    .cols = n,
                                    .alpha = 1,
                                    .beta = 1,
                                    .scale = scale});
}

void ProKlShampoo::statistics(Context& context, const Slice& s, const Roots& roots, const StepInfo& info) {
  const Stopwatch watch(times_.statistics);
  const auto [m, n, r, transposed] = shape(s.rows, s.cols);
  Scratch scratch(context);
  Matrices gradient = scratch.matrices(s.count, m * n);
  // S_a^(-1/2) G up to a rotation from the left, which no statistic of the right side sees.
  Matrices whitened = scratch.matrices(s.count, m * n);
  oriented(context, s, gradient, s.grad, s.ld, info.gradient_scale);
  const bool basis = options_.root == Root::eigenbasis;
  multiply(context, s,
           {.out = whitened,
            .a = basis ? s.state[kQa] : roots.left,
            .b = gradient,
            .M = m,
            .N = n,
            .K = m,
            .a_transposed = basis});
  left_statistics(context, s, roots, gradient, whitened);
  right_statistics(context, s, roots, whitened, info);
}

// `gradient` becomes scratch; `rotated`, which is Q_a^T G with the eigenbasis root, becomes l_a^(-1/2) Q_a^T
// G.
void ProKlShampoo::left_statistics(Context& context, const Slice& s, const Roots& roots, Matrices gradient,
                                   Matrices rotated) {
  const auto [m, n, r, transposed] = shape(s.rows, s.cols);
  const double fresh = (1 - options_.b2) / static_cast<double>(n);
  Scratch scratch(context);
  Matrices product = scratch.matrices(s.count, m * r);
  Matrices inside = scratch.matrices(s.count, m * r);
  if (options_.root == Root::eigenbasis) {
    Matrices outside = scratch.matrices(s.count, m * n);
    multiply(context, s, {.out = product, .a = rotated, .b = s.state[kU], .M = m, .N = r, .K = n});
    multiply(context, s, {.out = inside, .a = product, .b = roots.core, .M = m, .N = r, .K = r});
    project(context, s, outside, rotated, product, s.state[kU], m, n, r);
    kernels::matrix_scale(context, {.out = rotated,
                                    .x = rotated,
                                    .l = s.state[kLa],
                                    .count = s.count,
                                    .rows = m,
                                    .cols = n,
                                    .along = kernels::Along::rows,
                                    .power = -0.5});
    kernels::pro_eigenvalues(context, {.l = s.state[kLa],
                                       .inside = inside,
                                       .outside = outside,
                                       .scale = roots.tail,
                                       .count = s.count,
                                       .rows = m,
                                       .cols = n,
                                       .rank = r,
                                       .b2 = options_.b2});
  }
  // H H^T by its two blocks.
  multiply(context, s, {.out = product, .a = gradient, .b = s.state[kU], .M = m, .N = r, .K = n});
  multiply(context, s, {.out = inside, .a = product, .b = roots.core, .M = m, .N = r, .K = r});
  update_factor(context, {.s = s.state[kSa],
                          .x = inside,
                          .count = s.count,
                          .rows = m,
                          .cols = r,
                          .side = Side::left,
                          .keep = options_.b2,
                          .add = fresh});
  if (r == n) return;
  project(context, s, gradient, gradient, product, s.state[kU], m, n, r);
  kernels::matrix_combine(
      context, {.out = gradient, .x = gradient, .count = s.count, .rows = m, .cols = n, .scale = roots.tail});
  update_factor(context, {.s = s.state[kSa],
                          .x = gradient,
                          .count = s.count,
                          .rows = m,
                          .cols = n,
                          .side = Side::left,
                          .keep = 1,
                          .add = fresh});
}

void ProKlShampoo::right_statistics(Context& context, const Slice& s, const Roots& roots,
                                    ConstMatrices whitened, const StepInfo& info) {
  const auto [m, n, r, transposed] = shape(s.rows, s.cols);
  const bool due = context.dry_run || info.t % options_.tracker_every == 0;
  if (r > 0) track(context, s, roots, whitened, due);
  Scratch scratch(context);
  Matrices inside = scratch.matrices(s.count, m * r);  // Z
  multiply(context, s, {.out = inside, .a = whitened, .b = s.state[kU], .M = m, .N = r, .K = n});
  update_factor(context, {.s = s.state[kS],
                          .x = inside,
                          .count = s.count,
                          .rows = m,
                          .cols = r,
                          .side = Side::right,
                          .keep = options_.b2,
                          .add = (1 - options_.b2) / static_cast<double>(m)});
  kernels::pro_tail(context, {.mu = s.state[kMu],
                              .whole = squares(context, scratch, s, whitened, m, n),
                              .inside = squares(context, scratch, s, inside, m, r),
                              .count = s.count,
                              .rows = m,
                              .cols = n,
                              .rank = r,
                              .b2 = options_.b2});
  if (options_.tracker == Tracker::accumulate && due) {
    multiply(context, s,
             {.out = s.state[sum_index()], .a = s.state[kU], .b = s.state[kS], .M = n, .N = r, .K = r});
  }
}

// One orthogonal iteration. Y S^-1 spans what Y = b2 U S + (1-b2) C U does, but its condition is about 1, so
// Cholesky QR serves.
void ProKlShampoo::track(Context& context, const Slice& s, const Roots& roots, ConstMatrices whitened,
                         bool due) {
  const auto [m, n, r, transposed] = shape(s.rows, s.cols);
  const bool accumulates = options_.tracker == Tracker::accumulate;
  if (!due && !accumulates) return;
  const double fresh = (1 - options_.b2) / static_cast<double>(m);
  Scratch scratch(context);
  Matrices inside = scratch.matrices(s.count, m * r), scaled = scratch.matrices(s.count, m * r);
  multiply(context, s, {.out = inside, .a = whitened, .b = s.state[kU], .M = m, .N = r, .K = n});
  if (accumulates) {
    multiply(context, s,
             {.out = s.state[sum_index()],
              .a = whitened,
              .b = inside,
              .M = n,
              .N = r,
              .K = m,
              .a_transposed = true,
              .alpha = fresh,
              .add = s.state[sum_index()],
              .beta = options_.b2});
    if (!due) return;
  }
  Matrices next = scratch.matrices(s.count, n * r), span = scratch.matrices(s.count, n * r);
  Matrices overlap = scratch.matrices(s.count, r * r), turned = scratch.matrices(s.count, r * r);
  Matrices rotated = scratch.matrices(s.count, r * r);
  if (accumulates) {
    multiply(context, s, {.out = next, .a = s.state[sum_index()], .b = roots.core, .M = n, .N = r, .K = r});
    multiply(context, s, {.out = span, .a = next, .b = roots.core, .M = n, .N = r, .K = r});
  } else {
    multiply(context, s, {.out = scaled, .a = inside, .b = roots.core, .M = m, .N = r, .K = r});
    multiply(context, s, {.out = inside, .a = scaled, .b = roots.core, .M = m, .N = r, .K = r});
    multiply(context, s,
             {.out = span,
              .a = whitened,
              .b = inside,
              .M = n,
              .N = r,
              .K = m,
              .a_transposed = true,
              .alpha = fresh,
              .add = s.state[kU],
              .beta = options_.b2});
  }
  // U' is U where the factorisation fails.
  kernels::matrix_combine(context, {.out = next, .x = s.state[kU], .count = s.count, .rows = n, .cols = r});
  int32_t* status = scratch.take<int32_t>(s.count);
  kernels::matrix_orthonormalise(
      context, {.q = next, .a = span, .count = s.count, .rows = n, .cols = r, .status = status});
  events_.count(context, status, s.count);
  Matrices b = scratch.matrices(s.count, r * r);
  multiply(context, s, {.out = b, .a = next, .b = s.state[kU], .M = r, .N = r, .K = n, .a_transposed = true});
  multiply(context, s, {.out = turned, .a = b, .b = s.state[kS], .M = r, .N = r, .K = r});
  multiply(
      context, s,
      {.out = rotated, .a = turned, .b = b, .M = r, .N = r, .K = r, .b_transposed = true, .symmetric = true});
  multiply(context, s,
           {.out = overlap, .a = b, .b = b, .M = r, .N = r, .K = r, .b_transposed = true, .symmetric = true});
  kernels::pro_rotate(context, {.s = s.state[kS],
                                .mu = s.state[kMu],
                                .rotated = rotated,
                                .overlap = overlap,
                                .count = s.count,
                                .cols = n,
                                .rank = r});
  kernels::matrix_combine(context, {.out = s.state[kU], .x = next, .count = s.count, .rows = n, .cols = r});
}

void ProKlShampoo::report(Context& context, const Slice& s, MetricSink* metrics) const {
  const auto [m, n, r, transposed] = shape(s.rows, s.cols);
  report_spectrum(context, s, "subspace_eigenvalue", s.state[kS], r, metrics);
  if (context.dry_run) return;
  for (int64_t k = 0; k < s.count; k++) {
    double inside = 0;
    for (int64_t i = 0; i < r; i++) inside += s.state[kS][k][i * r + i];
    const double mu = s.state[kMu][k][0], outside = mu * static_cast<double>(n - r);
    metrics->record(fmt::format("{}.mu", *s.names[k]), mu);
    metrics->record(fmt::format("{}.subspace_trace_share", *s.names[k]), inside / (inside + outside));
  }
  if (options_.root == Root::eigenbasis) report_range(s, "left_eigenvalue", s.state[kLa], m, *metrics);
}

}  // namespace kiln::optim
