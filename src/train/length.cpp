#include "src/train/length.h"

#include <fmt/format.h>

#include <vector>

#include "src/config/load.h"
#include "src/train/config_difference.h"

namespace kiln::train {

optim::Schedule schedule_of(const config::Config& config, int64_t steps) {
  const auto& s = config.schedule;
  return {.kind = s.kind,
          .steps = steps,
          .warmup = s.warmup,
          .final = s.final,
          .decay_fraction = s.decay_fraction};
}

std::string difference_at_start(const config::Config& shorter, const config::Config& longer, int64_t steps) {
  config::Config as_long = shorter;
  as_long.train.steps = longer.train.steps;
  as_long.train.tokens = longer.train.tokens;
  const auto differences = meaningful_differences(config::to_json(as_long), config::to_json(longer));
  if (!differences.empty()) return fmt::format("other keys differ: {}", differences.front());
  if (shorter.train.steps == 0 || longer.train.steps == 0) return "train.epochs says how long it is";
  if (longer.train.steps < steps) {
    return fmt::format("it has only {} steps, fewer than {}", longer.train.steps, steps);
  }
  const optim::Schedule before = schedule_of(shorter, shorter.train.steps),
                        after = schedule_of(longer, longer.train.steps);
  for (int64_t step = 0; step < steps; step++) {
    if (optim::multiplier(before, step) == optim::multiplier(after, step)) continue;
    return fmt::format(
        "the {} schedule over {} steps has another learning rate at step {} than over {} steps",
        longer.schedule.kind, longer.train.steps, step + 1, shorter.train.steps);
  }
  return {};
}

}  // namespace kiln::train
