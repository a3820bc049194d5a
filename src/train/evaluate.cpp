#include "src/train/evaluate.h"

#include <algorithm>
#include <span>

#include "src/core/error.h"
#include "src/train/stop.h"

namespace kiln::train {

int64_t predicted_tokens(const data::Dataset& dataset) {
  return dataset.tokens() - 1;
}

int64_t tokens_of_whole_windows(const data::Dataset& dataset, int64_t tokens) {
  const int64_t T = dataset.window_tokens();
  return std::clamp<int64_t>(tokens / T, 1, dataset.windows()) * T;
}

std::optional<Evaluation> evaluate(Context& context, plan::PlannedRun& run, const data::Dataset& dataset,
                                   int64_t tokens, const std::function<void(int64_t done)>& progress) {
  require(tokens > 0 && tokens <= predicted_tokens(dataset), "more tokens are asked for than there are");
  const int64_t T = run.shape.T;
  const int64_t B = run.validation_batch;
  const std::span<int64_t> counts(run.token_counts, static_cast<size_t>(run.vocab));
  std::fill(counts.begin(), counts.end(), 0);
  double total = 0;
  for (int64_t first = 0; first < tokens; first += B * T) {
    if (stop_requested()) return std::nullopt;
    const int64_t filled = std::min(B * T, tokens - first);
    for (int64_t i = 0; i < filled; i += T) {
      dataset.read(first + i, std::min(T, filled - i), run.tokens + i, run.targets + i);
    }
    std::fill(run.tokens + filled, run.tokens + B * T, 0);
    std::fill(run.targets + filled, run.targets + B * T, -1);  // no loss there
    run.model->forward(context, run.tokens, run.targets, B, T, run.losses);
    for (int64_t i = 0; i < filled; i++) {
      total += run.losses[i];
      counts[static_cast<size_t>(run.targets[i])]++;
    }
    if (progress) progress(first + filled);
  }
  return Evaluation{total / static_cast<double>(tokens), data::unigram_entropy(counts), tokens};
}

}  // namespace kiln::train
