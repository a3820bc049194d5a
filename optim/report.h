// Numbers about what a step did, for MetricSink: "h.0.attn.qkv.weight.q.update_rms". They are only computed
// in steps that are asked for them.
#pragma once

#include <chrono>
#include <string_view>

#include "kernels/matrix.h"
#include "optim/matrix_root.h"
#include "optim/slices.h"

namespace kiln::optim {

// Seconds spent in the parts of a step since the last report.
struct PhaseTimes {
  double statistics = 0, roots = 0, complement = 0, update = 0;
};

// Adds the time of its own life.
class Stopwatch {
 public:
  explicit Stopwatch(double& total) : total_(total) {}
  ~Stopwatch() { total_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double& total_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// "MATRIX.update_rms" (of what the learning rate multiplies) and "MATRIX.weight_rms". In a dry run `metrics`
// may be null.
void report_update(Context& context, const Slice& slice, kernels::ConstMatrices update, double scale,
                   MetricSink* metrics);

// "MATRIX.WHAT_min" and "MATRIX.WHAT_max" of n eigenvalues each.
void report_range(const Slice& slice, std::string_view what, kernels::ConstMatrices l, int64_t n,
                  MetricSink& metrics);

// The same of factors (n x n) whose eigenvalues are not at hand, by an eigen-decomposition; nothing where n = 0, or of a
// factor that cannot be decomposed. In a dry run `metrics` may be null.
void report_spectrum(Context& context, const Slice& slice, std::string_view what,
                     kernels::ConstMatrices factor, int64_t n, MetricSink* metrics);

// "MATRIX.WHAT": how flat the spectrum of each factor (n x n) is past its `rank` largest eigenvalues (spectrum.h), by an
// eigen-decomposition; nothing where rank >= n, or of a factor that cannot be decomposed. In a dry run `metrics` may be
// null.
void report_tail(Context& context, const Slice& slice, std::string_view what, kernels::ConstMatrices factor,
                 int64_t n, int64_t rank, MetricSink* metrics);

// "OPTIMIZER.SHAPE.tail_report_seconds": what report_tail took, which is no part of the optimizer's own work; starts anew.
void report_tail_time(std::string_view optimizer, const MatrixBatch& batch, double& seconds,
                      MetricSink& metrics);

// "OPTIMIZER.failed_factorisations", "OPTIMIZER.retried_factorisations" and "OPTIMIZER.slow_roots", since the program
// started, of all shapes together.
void report_events(std::string_view optimizer, const Events& events, MetricSink& metrics);

// "OPTIMIZER.SHAPE.statistics_ms" and so on; starts anew.
void report_times(std::string_view optimizer, const MatrixBatch& batch, PhaseTimes& times,
                  MetricSink& metrics);

}  // namespace kiln::optim
