#include "src/train/step.h"

#include <chrono>
#include <cmath>

#include "kernels/table.h"
#include "src/train/stop.h"

namespace kiln::train {
namespace {

void zero_gradients(Context& context, const ParameterTable& parameters) {
  for (const Parameter& p : parameters.all()) {
    kernels::set_zero(
        context,
        {.x = p.gradient, .bytes = p.elements() * static_cast<int64_t>(sizeof(float)), .dtype = DType::f32});
  }
}

// Adds what has passed since it was last asked.
class Laps {
 public:
  void add(double* total) {
    const auto now = std::chrono::steady_clock::now();
    if (total) *total += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// Sums over ranks are the same on all of them, and so is what the guards make of them.
void judge(Guards& guards, StepResult& result) {
  result.loss_deviations = guards.loss.deviations(result.loss);
  result.norm_deviations = guards.gradient_norm.deviations(result.gradient_norm);
  if (guards.gradient_norm.add(result.gradient_norm)) result.reason = Skip::gradient_norm_outlier;
  if (guards.loss.add(result.loss)) result.reason = Skip::loss_outlier;
}

}  // namespace

StepResult train_step(Context& context, plan::PlannedRun& run, const data::Dataset& dataset,
                      data::Sampler& sampler, dist::Communicator& ranks, const StepOptions& options,
                      Position& position) {
  const int64_t B = run.shape.B, T = run.shape.T;
  const int64_t tokens_per_rank = run.micro_batches * B * T;
  const int64_t tokens = tokens_per_rank * ranks.size();

  // Samples are dealt micro-batch by micro-batch, rank after rank: any number of ranks trains on the same
  // step batches.
  StepTimes* times = options.times;
  Laps laps;
  const int64_t begin = options.first_batch ? 0 : position.samples;
  zero_gradients(context, run.model->parameters());
  double loss = 0;
  for (int64_t micro = 0; micro < run.micro_batches; micro++) {
    if (ranks.any(stop_requested()))
      return {.loss = 0, .gradient_norm = 0, .skipped = false, .abandoned = true};
    const int64_t first = begin + (micro * ranks.size() + ranks.rank()) * B;
    for (int64_t b = 0; b < B; b++) {
      dataset.read_window(sampler.window(first + b), run.tokens + b * T, run.targets + b * T);
    }
    run.model->forward_backward(context, run.tokens, run.targets, B, T, 1.0f / static_cast<float>(tokens),
                                run.losses);
    for (int64_t i = 0; i < B * T; i++) loss += run.losses[i];
  }
  position.samples += run.micro_batches * B * ranks.size();
  position.step++;
  laps.add(times ? &times->passes : nullptr);

  ranks.sum(&loss, 1);
  for (const Parameter& p : run.model->parameters().all()) ranks.sum(p.gradient, p.elements());
  laps.add(times ? &times->sums : nullptr);
  StepResult result{};
  result.loss = loss / static_cast<double>(tokens);
  result.gradient_norm = run.gradient_norm->compute(context, run.model->parameters());
  laps.add(times ? &times->norm : nullptr);
  if (!std::isfinite(result.gradient_norm)) {
    result.reason = Skip::gradient_not_finite;
  } else if (!std::isfinite(result.loss)) {
    result.reason = Skip::loss_not_finite;  // a finite gradient of such a loss means nothing
  } else if (options.guards) {
    judge(*options.guards, result);
  }
  result.skipped = ranks.any(result.reason != Skip::none);
  if (result.skipped) return result;

  position.optimizer_t++;
  const double scale = optim::clip_scale(result.gradient_norm, options.clip);
  run.optimizers->step(context,
                       {.t = position.optimizer_t,
                        .lr_multiplier = options.lr_multiplier,
                        .gradient_scale = scale,
                        .metrics = options.metrics},
                       times ? &times->optimizers : nullptr);
  run.model->parameters().bump_versions();
  return result;
}

}  // namespace kiln::train
