#include "src/train/sampling.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>

#include "src/core/error.h"

namespace kiln::train {

void check_sampling(const SamplingOptions& options) {
  const auto check = [](const char* option, double value, double most, const char* hint) {
    if (value >= 0 && value <= most) return;
    throw Error(ExitCode::usage, fmt::format("--{} {}: expected a number from 0 to {}", option, value, most),
                hint);
  };
  check("temperature", options.temperature, 100,
        "0 always takes the likeliest token, 1 the model's own probabilities");
  check("top-k", static_cast<double>(options.top_k), 1 << 30, "0 draws among all tokens");
  check("top-p", options.top_p, 1, "1 draws among all tokens");
}

int32_t draw_token(const float* logits, int64_t V, const SamplingOptions& options, double u,
                   int32_t* scratch) {
  const auto logit = [&](int32_t id) {
    return std::isnan(logits[id]) ? -std::numeric_limits<double>::infinity()
                                  : static_cast<double>(logits[id]);
  };
  const auto likelier = [&](int32_t a, int32_t b) {
    return logit(a) != logit(b) ? logit(a) > logit(b) : a < b;
  };
  const auto less_likely = [&](int32_t a, int32_t b) { return likelier(b, a); };
  std::span<int32_t> kept(scratch, static_cast<size_t>(V));
  std::iota(kept.begin(), kept.end(), 0);
  const int32_t likeliest = *std::min_element(kept.begin(), kept.end(), likelier);
  if (options.temperature <= 0) return likeliest;

  if (options.top_k > 0 && options.top_k < V) {
    std::nth_element(kept.begin(), kept.begin() + options.top_k, kept.end(), likelier);
    kept = kept.first(static_cast<size_t>(options.top_k));
  }
  const double top = logit(likeliest);
  const auto weight = [&](int32_t id) {  // the difference of infinities would be no number
    return logit(id) == top ? 1.0 : std::exp((logit(id) - top) / options.temperature);
  };
  double total = 0;
  for (const int32_t id : kept) total += weight(id);
  if (options.top_p < 1) {
    // A heap gives the likeliest ones up one by one, to the end of `kept`; few are usually enough.
    const double enough = options.top_p * total;
    size_t rest = kept.size();
    total = 0;
    std::make_heap(kept.begin(), kept.end(), less_likely);
    do {
      std::pop_heap(kept.begin(), kept.begin() + static_cast<std::ptrdiff_t>(rest), less_likely);
      total += weight(kept[--rest]);
    } while (rest > 0 && total < enough);
    kept = kept.subspan(rest);
  }
  // By id again: what is drawn does not depend on how the others were left out.
  if (kept.size() < static_cast<size_t>(V) || options.top_p < 1) std::sort(kept.begin(), kept.end());
  double left = u * total;
  int32_t last = likeliest;
  for (const int32_t id : kept) {
    const double part = weight(id);
    if (part > 0) last = id;
    left -= part;
    if (left < 0) return last;
  }
  return last;  // rounding left something of u * total
}

}  // namespace kiln::train
