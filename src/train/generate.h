// Text from a model, one token at a time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/plan/planned_run.h"

namespace kiln::train {

struct SamplingOptions {
  int64_t tokens;      // to generate
  double temperature;  // 0: always the most likely token
  int64_t top_k;       // 0: all
  uint64_t seed;
};

// Draws one of the first V logits. `u` in [0, 1) decides; `scratch` holds V elements.
int32_t draw_token(const float* logits, int64_t V, const SamplingOptions& options, double u,
                   int32_t* scratch);

// Continues `prompt` (token ids, at least one). When the sequence is full, the older half of it is forgotten.
std::vector<int32_t> generate(Context& context, plan::PlannedRun& run, const std::vector<int32_t>& prompt,
                              const SamplingOptions& options);

// The same as text, by the tokenizer's name in the config ("bytes"; "gpt2" prints token ids).
std::string generate_text(Context& context, plan::PlannedRun& run, const std::string& tokenizer,
                          const std::string& prompt, const SamplingOptions& options);

}  // namespace kiln::train
