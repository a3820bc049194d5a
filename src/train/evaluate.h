// The loss on a set of tokens: the same windows each time, forward only.
#pragma once

#include <functional>
#include <optional>

#include "data/dataset.h"
#include "src/plan/planned_run.h"

namespace kiln::train {

struct Evaluation {
  double loss;             // mean nats a token
  double unigram_entropy;  // of the very tokens that were predicted
  int64_t tokens;
};

// Every token of a dataset but the first, which nothing precedes.
int64_t predicted_tokens(const data::Dataset& dataset);

// What validation during a run predicts: the first `tokens` / T windows, at least one, at most all.
int64_t tokens_of_whole_windows(const data::Dataset& dataset, int64_t tokens);

// Predicts the first `tokens` of the dataset's predicted tokens, each once, from what precedes it in its
// window of T; the last window may be shorter. Passes always have the planned shape, places that stay empty
// do not count. Afterwards run.token_counts holds how often each token was to be predicted. `progress` (may be
// empty) hears after each pass how many are done. None when a signal asked the program to stop meanwhile.
std::optional<Evaluation> evaluate(Context& context, plan::PlannedRun& run, const data::Dataset& dataset,
                                   int64_t tokens, const std::function<void(int64_t done)>& progress = {});

}  // namespace kiln::train
