#include "src/train/evaluate.h"

#include <algorithm>
#include <span>

namespace kiln::train {

Evaluation evaluate(Context& context, plan::PlannedRun& run, const data::Dataset& dataset, int64_t tokens) {
  const int64_t T = run.shape.T;
  const int64_t B = std::min(run.validation_batch, dataset.windows());
  const int64_t windows = std::max(B, std::min(tokens / T, dataset.windows()) / B * B);
  const std::span<int64_t> counts(run.token_counts, static_cast<size_t>(run.vocab));
  std::fill(counts.begin(), counts.end(), 0);
  double total = 0;
  for (int64_t first = 0; first < windows; first += B) {
    for (int64_t b = 0; b < B; b++) dataset.read_window(first + b, run.tokens + b * T, run.targets + b * T);
    run.model->forward(context, run.tokens, run.targets, B, T, run.losses);
    for (int64_t i = 0; i < B * T; i++) {
      total += run.losses[i];
      counts[static_cast<size_t>(run.targets[i])]++;
    }
  }
  return {total / static_cast<double>(windows * T), data::unigram_entropy(counts), windows * T};
}

}  // namespace kiln::train
