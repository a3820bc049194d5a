#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "src/core/error.h"

namespace kiln::optim {
namespace {

double ratio(int64_t a, int64_t b) {
  return static_cast<double>(a) / static_cast<double>(b);
}

}  // namespace

double multiplier(const Schedule& s, int64_t step) {
  const bool falls = s.kind == "cosine" || s.kind == "linear" || s.kind == "wsd";
  if (!falls && s.kind != "constant") {
    throw Error(ExitCode::usage, fmt::format("unknown schedule \"{}\"", s.kind),
                "one of cosine, linear, wsd, constant");
  }
  if (step >= s.steps) return falls ? s.final : 1.0;
  if (step < s.warmup) return ratio(step + 1, s.warmup);
  if (!falls) return 1.0;

  const double fall = 1.0 - s.final;
  const double p = ratio(step - s.warmup, s.steps - s.warmup);
  if (s.kind == "cosine") return s.final + fall * 0.5 * (1.0 + std::cos(std::numbers::pi * p));
  if (s.kind == "linear") return 1.0 - fall * p;
  const int64_t decay = std::llround(s.decay_fraction * static_cast<double>(s.steps));
  const int64_t start = std::max(s.warmup, s.steps - decay);
  return step <= start ? 1.0 : 1.0 - fall * std::sqrt(ratio(step - start, s.steps - start));
}

}  // namespace kiln::optim
