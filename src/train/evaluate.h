// Validation loss: the same windows each time, forward only.
#pragma once

#include "data/dataset.h"
#include "src/plan/planned_run.h"

namespace kiln::train {

struct Evaluation {
  double loss;             // mean nats a token
  double unigram_entropy;  // of the very tokens that were predicted
  int64_t tokens;
};

// Over the first `tokens` / sequence windows (at least one, at most all).
Evaluation evaluate(Context& context, plan::PlannedRun& run, const data::Dataset& dataset, int64_t tokens);

}  // namespace kiln::train
