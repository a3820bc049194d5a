#include "src/plan/advice.h"

#include <fmt/format.h>

#include <algorithm>

namespace kiln::plan {

std::string how_to_lower(const config::Config& config, const PlannedRun& run, const Device& device) {
  const size_t now = run.plan.layout().total_bytes;
  std::string advice;
  const auto consider = [&](const char* key, auto value) {  // a pointer to the key's field in a Config
    config::Config smaller = config;
    int64_t& lower = value(smaller);
    const int64_t before = lower;
    if (before < 2 || before % 2 != 0) return;
    lower /= 2;
    const size_t total = plan_run(smaller, device, run.purpose).plan.layout().total_bytes;
    if (total + now / 100 > now) return;  // not worth a line
    advice += fmt::format("\n    {} = {} instead of {}: {}", key, lower, before, bytes_text(total));
  };
  // Of a training run train.tokens_per_step stays a multiple of them.
  consider("train.micro_batch", [](config::Config& c) -> int64_t& { return c.train.micro_batch; });
  consider("train.sequence", [](config::Config& c) -> int64_t& { return c.train.sequence; });
  const int64_t rows = std::min(config.train.loss_rows, run.shape.B * run.shape.T);
  if (rows == config.train.loss_rows) {
    consider("train.loss_rows", [](config::Config& c) -> int64_t& { return c.train.loss_rows; });
  }
  if (run.purpose == Purpose::evaluation && config.validation.tokens / 2 >= config.train.sequence) {
    consider("validation.tokens", [](config::Config& c) -> int64_t& { return c.validation.tokens; });
  }
  if (run.purpose == Purpose::training && config.train.recompute == "none") {
    config::Config smaller = config;
    smaller.train.recompute = "block";
    const size_t total = plan_run(smaller, device, run.purpose).plan.layout().total_bytes;
    if (total + now / 100 <= now) {
      advice += fmt::format("\n    train.recompute = block, which computes up to a third more: {}",
                            bytes_text(total));
    }
  }
  const auto bytes_of = [&](Category category) {
    return run.plan.layout().category_bytes[static_cast<size_t>(category)];
  };
  if (run.purpose != Purpose::training) {
    const std::string weights =
        bytes_text(bytes_of(Category::parameters) + bytes_of(Category::packed_weights));
    if (advice.empty())
      return fmt::format("{} of it are weights: this model needs a larger machine", weights);
    return fmt::format(
        "lower one of these keys with --set KEY=VALUE; all together then needs{}\n    {} are weights", advice,
        weights);
  }
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
