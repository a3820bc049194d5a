// Text from a model, one token at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "src/config/config.h"
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

// Samples of text. Everything that takes memory (the tokenizer, the prompt's tokens) is made at the start, before a run
// steps.
class TextGenerator {
 public:
  // Opens the tokenizer that the config names; "gpt2" has none here, and its samples are token ids as numbers. Throws
  // Error(ExitCode::usage) when it has more tokens than the model, or when it is not the one that the training shards
  // were made with (dataset.json beside them tells), and whatever open_tokenizer() throws.
  explicit TextGenerator(const config::Config& config);

  // The prompt of the config and what the model makes of it.
  std::string sample(Context& context, plan::PlannedRun& run, const SamplingOptions& options) const;

 private:
  std::string prompt_;
  std::unique_ptr<data::Tokenizer> tokenizer_;  // none: "gpt2"
  std::vector<int32_t> prompt_tokens_;          // end-of-text, then the prompt
};

}  // namespace kiln::train
