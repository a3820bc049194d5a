#include "optim/report.h"

#include <fmt/format.h>

#include <cmath>

#include "kernels/table.h"
#include "optim/spectrum.h"

namespace kiln::optim {
namespace {

// body(name, eigenvalues in ascending order) for each factor (n x n) that can be decomposed; not in a dry run.
template <class Body>
void for_spectra(Context& context, const Slice& slice, kernels::ConstMatrices factor, int64_t n, Body body) {
  Scratch scratch(context);
  kernels::Matrices vectors = scratch.matrices(slice.count, n * n), values = scratch.matrices(slice.count, n);
  int32_t* status = scratch.take<int32_t>(slice.count);
  kernels::matrix_eigen(
      context,
      {.vectors = vectors, .values = values, .s = factor, .count = slice.count, .n = n, .status = status});
  for (int64_t k = 0; !context.dry_run && k < slice.count; k++) {
    if (status[k] != kernels::kFailed) body(*slice.names[k], values[k]);
  }
}

}  // namespace

void report_update(Context& context, const Slice& slice, kernels::ConstMatrices update, double scale,
                   MetricSink* metrics) {
  Scratch scratch(context);
  double* updates = scratch.take<double>(slice.count);
  double* weights = scratch.take<double>(slice.count);
  kernels::matrix_squares(
      context, {.out = updates, .x = update, .count = slice.count, .rows = slice.rows, .cols = slice.cols});
  kernels::matrix_squares(context, {.out = weights,
                                    .x = slice.param,
                                    .count = slice.count,
                                    .rows = slice.rows,
                                    .cols = slice.cols,
                                    .ld = slice.ld});
  const double elements = static_cast<double>(slice.rows * slice.cols);
  for (int64_t k = 0; !context.dry_run && k < slice.count; k++) {
    metrics->record(fmt::format("{}.update_rms", *slice.names[k]), scale * std::sqrt(updates[k] / elements));
    metrics->record(fmt::format("{}.weight_rms", *slice.names[k]), std::sqrt(weights[k] / elements));
  }
}

void report_range(const Slice& slice, std::string_view what, kernels::ConstMatrices l, int64_t n,
                  MetricSink& metrics) {
  for (int64_t k = 0; k < slice.count; k++) {
    const auto [least, most] = std::minmax_element(l[k], l[k] + n);
    metrics.record(fmt::format("{}.{}_min", *slice.names[k], what), *least);
    metrics.record(fmt::format("{}.{}_max", *slice.names[k], what), *most);
  }
}

void report_spectrum(Context& context, const Slice& slice, std::string_view what,
                     kernels::ConstMatrices factor, int64_t n, MetricSink* metrics) {
  if (n == 0) return;
  for_spectra(context, slice, factor, n, [&](const std::string& name, const float* ascending) {
    metrics->record(fmt::format("{}.{}_min", name, what), ascending[0]);
    metrics->record(fmt::format("{}.{}_max", name, what), ascending[n - 1]);
  });
}

void report_tail(Context& context, const Slice& slice, std::string_view what, kernels::ConstMatrices factor,
                 int64_t n, int64_t rank, MetricSink* metrics) {
  if (rank >= n) return;
  for_spectra(context, slice, factor, n, [&](const std::string& name, const float* ascending) {
    metrics->record(fmt::format("{}.{}", name, what), tail_gap(ascending, n, rank));
  });
}

void report_tail_time(std::string_view optimizer, const MatrixBatch& batch, double& seconds,
                      MetricSink& metrics) {
  if (seconds > 0) {
    metrics.record(fmt::format("{}.{}x{}.tail_report_seconds", optimizer, batch.rows, batch.cols), seconds);
  }
  seconds = 0;
}

void report_events(std::string_view optimizer, const Events& events, MetricSink& metrics) {
  const auto record = [&](const char* what, int64_t count) {
    metrics.record(fmt::format("{}.{}", optimizer, what), static_cast<double>(count));
  };
  record("failed_factorisations", events.failed);
  record("retried_factorisations", events.retried);
  record("slow_roots", events.slow_roots);
}

void report_times(std::string_view optimizer, const MatrixBatch& batch, PhaseTimes& times,
                  MetricSink& metrics) {
  const auto record = [&](const char* phase, double seconds) {
    metrics.record(fmt::format("{}.{}x{}.{}_ms", optimizer, batch.rows, batch.cols, phase), seconds * 1e3);
  };
  record("statistics", times.statistics);
  record("roots", times.roots);
  record("complement", times.complement);
  record("update", times.update);
  times = {};
}

}  // namespace kiln::optim
