#include "src/train/evaluate.h"

#include <algorithm>
#include <span>

#include "src/train/stop.h"

namespace kiln::train {

std::optional<Evaluation> evaluate(Context& context, plan::PlannedRun& run, const data::Dataset& dataset,
                                   int64_t tokens) {
  const int64_t T = run.shape.T;
  const int64_t B = run.validation_batch;
  const int64_t windows = std::clamp<int64_t>(tokens / T, 1, dataset.windows());
  const std::span<int64_t> counts(run.token_counts, static_cast<size_t>(run.vocab));
  std::fill(counts.begin(), counts.end(), 0);
  double total = 0;
  for (int64_t first = 0; first < windows; first += B) {
    if (stop_requested()) return std::nullopt;
    const int64_t filled = std::min(B, windows - first);
    for (int64_t b = 0; b < filled; b++)
      dataset.read_window(first + b, run.tokens + b * T, run.targets + b * T);
    std::fill(run.tokens + filled * T, run.tokens + B * T, 0);
    std::fill(run.targets + filled * T, run.targets + B * T, -1);  // no loss there
    run.model->forward(context, run.tokens, run.targets, B, T, run.losses);
    for (int64_t i = 0; i < filled * T; i++) {
      total += run.losses[i];
      counts[static_cast<size_t>(run.targets[i])]++;
    }
  }
  return Evaluation{total / static_cast<double>(windows * T), data::unigram_entropy(counts), windows * T};
}

}  // namespace kiln::train
