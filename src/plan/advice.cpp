#include "src/plan/advice.h"

#include <fmt/format.h>

#include <algorithm>

namespace kiln::plan {

std::string how_to_lower(const config::Config& config, const PlannedRun& run, const Device& device) {
  const size_t now = run.plan.layout().total_bytes;
  std::string advice;
  const auto consider = [&](const char* key, int64_t config::Train::*value) {
    if (config.train.*value < 2 || config.train.*value % 2 != 0) return;
    config::Config smaller = config;
    smaller.train.*value /= 2;
    const size_t total = plan_run(smaller, device).plan.layout().total_bytes;
    if (total + now / 100 > now) return;  // not worth a line
    advice += fmt::format("\n    {} = {} instead of {}: {}", key, smaller.train.*value, config.train.*value,
                          bytes_text(total));
  };
  consider("train.micro_batch", &config::Train::micro_batch);  // train.tokens_per_step stays a multiple
  consider("train.sequence", &config::Train::sequence);
  const int64_t rows = std::min(config.train.loss_rows, run.shape.B * run.shape.T);
  if (rows == config.train.loss_rows) consider("train.loss_rows", &config::Train::loss_rows);
  const auto bytes_of = [&](Category category) {
    return run.plan.layout().category_bytes[static_cast<size_t>(category)];
  };
  const size_t model = bytes_of(Category::parameters) + bytes_of(Category::master_weights) +
                       bytes_of(Category::packed_weights) + bytes_of(Category::gradients) +
                       bytes_of(Category::optimizer_state);
  return fmt::format(
      "lower one of these keys; the whole run then needs{}\n    model.layers, model.width, model.vocab, or "
      "another "
      "optimizer.name: {} are weights, gradients and optimizer state\n    kiln plan shows the plan of any "
      "config",
      advice, bytes_text(model));
}

void with_advice(const config::Config& config, const PlannedRun& run, const Device& device,
                 FunctionRef<void()> allocate) {
  try {
    allocate();
  } catch (const OutOfMemory& error) {
    throw Error(error.code(), error.what(), how_to_lower(config, run, device));
  }
}

}  // namespace kiln::plan
