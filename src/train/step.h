// One optimizer step: micro-batches forward and backward, the sum over ranks, clipping, the update.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "data/dataset.h"
#include "data/sampler.h"
#include "src/dist/communicator.h"
#include "src/plan/planned_run.h"
#include "src/train/guards.h"

namespace kiln::train {

// Where a run stands; with the parameters and the optimizer's state, all that a checkpoint must hold.
struct Position {
  int64_t step = 0;         // steps taken, skipped ones included: the schedule follows it
  int64_t optimizer_t = 0;  // steps that updated something
  int64_t samples = 0;      // sequences drawn from the sampler, all ranks together
};

enum class Skip : uint8_t { none, gradient_not_finite, loss_not_finite, loss_outlier, gradient_norm_outlier };

struct StepResult {
  double loss;           // mean nats a token over the whole batch
  double gradient_norm;  // before clipping
  bool skipped;          // nothing was updated
  bool abandoned;  // a signal asked the program to stop: nothing has changed, the step is still to be done
  Skip reason = Skip::none;
  double loss_deviations = NAN, norm_deviations = NAN;  // above their mean; NaN: not known (guards.h)
};

// Seconds that the parts of steps took; every step adds to them.
struct StepTimes {
  double passes = 0;  // gradients set to zero, tokens read, forward and backward of all micro-batches
  double sums = 0;    // over ranks
  double norm = 0;    // of the gradient
  std::vector<double> optimizers;  // by group of the optimizer set
};

struct StepOptions {
  double clip;                    // 0: no clipping
  double lr_multiplier;           // of the schedule
  MetricSink* metrics = nullptr;  // set: the optimizers report
  StepTimes* times = nullptr;     // set: gets what each part took
  Guards* guards = nullptr;       // set: outliers are skipped
  bool first_batch = false;       // train on the samples of the first step, whatever the position
};

// Advances `position`. A gradient norm or a loss that is not finite, or a guard, skips the update on every rank: parameters and
// optimizer state stay, data position and schedule move on.
StepResult train_step(Context& context, plan::PlannedRun& run, const data::Dataset& dataset,
                      data::Sampler& sampler, dist::Communicator& ranks, const StepOptions& options,
                      Position& position);

}  // namespace kiln::train
