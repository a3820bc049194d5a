// Validation loss: the same windows each time, forward only.
#pragma once

#include <optional>

#include "data/dataset.h"
#include "src/plan/planned_run.h"

namespace kiln::train {

struct Evaluation {
  double loss;             // mean nats a token
  double unigram_entropy;  // of the very tokens that were predicted
  int64_t tokens;
};

// Over the first `tokens` / T windows of the dataset, at least one, at most all; passes always have the
// planned shape, places that stay empty do not count. None when a signal asked the program to stop meanwhile.
std::optional<Evaluation> evaluate(Context& context, plan::PlannedRun& run, const data::Dataset& dataset,
                                   int64_t tokens);

}  // namespace kiln::train
