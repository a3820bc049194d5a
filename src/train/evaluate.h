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

// Over the first windows of the dataset: as many batches of run.validation_batch sequences as fit into
// `tokens` and into the dataset, so that every pass has the planned shape; a dataset smaller than one batch
// is used whole.
Evaluation evaluate(Context& context, plan::PlannedRun& run, const data::Dataset& dataset, int64_t tokens);

}  // namespace kiln::train
