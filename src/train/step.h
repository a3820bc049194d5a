// One optimizer step: micro-batches forward and backward, the sum over ranks, clipping, the update.
#pragma once

#include <vector>

#include "data/dataset.h"
#include "data/sampler.h"
#include "src/dist/communicator.h"
#include "src/plan/planned_run.h"

namespace kiln::train {

// Where a run stands; with the parameters and the optimizer's state, all that a checkpoint must hold.
struct Position {
  int64_t step = 0;         // steps taken, skipped ones included: the schedule follows it
  int64_t optimizer_t = 0;  // steps that updated something
  int64_t samples = 0;      // sequences drawn from the sampler, all ranks together
};

struct StepResult {
  double loss;           // mean nats a token over the whole batch
  double gradient_norm;  // before clipping; not finite: the step was skipped
  bool skipped;
  bool abandoned;  // a signal asked the program to stop: nothing has changed, the step is still to be done
};

// Seconds that the parts of steps took; every step adds to them.
struct StepTimes {
  double passes = 0;               // gradients set to zero, tokens read, forward and backward of all micro-batches
  double sums = 0;                 // over ranks
  double norm = 0;                 // of the gradient
  std::vector<double> optimizers;  // by group of the optimizer set
};

struct StepOptions {
  double clip;           // 0: no clipping
  double lr_multiplier;  // of the schedule
  MetricSink* metrics = nullptr;  // set: the optimizers report
  StepTimes* times = nullptr;     // set: gets what each part took
};

// Advances `position`. A non-finite gradient norm skips the update on every rank: parameters and optimizer
// state stay, data position and schedule move on.
StepResult train_step(Context& context, plan::PlannedRun& run, const data::Dataset& dataset,
                      data::Sampler& sampler, dist::Communicator& ranks, const StepOptions& options,
                      Position& position);

}  // namespace kiln::train
