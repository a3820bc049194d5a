// Drawing the next token from a model's logits.
#pragma once

#include <cstdint>

namespace kiln::train {

// Applied in this order: logits are divided by the temperature, all but the top_k likeliest tokens go, and of
// those that remain all but the fewest likeliest ones whose probabilities sum to top_p (Holtzman et al., arXiv
// 1904.09751). Of equally likely tokens the lower id counts as likelier.
struct SamplingOptions {
  double temperature = 1;  // 0: always the most likely token
  int64_t top_k = 0;       // 0: all
  double top_p = 1;        // in (0, 1]; however small, one token stays
};

// Throws Error(ExitCode::usage), which names the option, for a temperature outside of 0 to 100, a negative top_k, and a
// top_p outside of 0 to 1 (0 counts as "however small"); NaN is outside.
void check_sampling(const SamplingOptions& options);

// Draws one of the first V logits; `u` in [0, 1) decides. A logit that is not a number counts as minus infinity; only a
// token of a probability above 0 is drawn. Of several infinite logits, and where all are minus infinity, each is equally
// likely. `scratch` holds V elements.
int32_t draw_token(const float* logits, int64_t V, const SamplingOptions& options, double u,
                   int32_t* scratch);

}  // namespace kiln::train
