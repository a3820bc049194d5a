// Text from a model, one token at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "src/config/config.h"
#include "src/core/random.h"
#include "src/plan/planned_run.h"
#include "src/train/sampling.h"

namespace kiln::train {

// One continuation of a prompt. Its tokens, keys and values lie in the run's planned memory (run.tokens, the
// model's cache), so there is one at a time, and no training step in between.
class Generation {
 public:
  // `prompt`: token ids, at least one; of one that is longer than the planned sequence only the end counts.
  // Number i of a stream of `seed`, which `sample` names, draws token i.
  Generation(Context& context, plan::PlannedRun& run, std::span<const int32_t> prompt,
             const SamplingOptions& options, uint64_t seed, uint64_t sample = 0);

  // The next token: one position's work with the cache. When the sequence is full, its older half is
  // forgotten and the later one read anew, since the positions of all its tokens change.
  int32_t next();

  bool full() const { return length_ == run_.shape.T; }  // the next call forgets

 private:
  void read();

  Context& context_;
  plan::PlannedRun& run_;
  SamplingOptions options_;
  Random random_;
  int64_t length_ = 0;  // tokens at run.tokens, all in the cache but for the first call
  uint64_t drawn_ = 0;
  int32_t latest_ = -1;  // drawn, and not among those yet
};

// Samples of text during training. Everything that takes memory (the tokenizer, the prompt's tokens) is made
// at the start, before a run steps.
class TextGenerator {
 public:
  // Opens the config's tokenizer (run_tokenizer.h); where it has none, samples are token ids as numbers.
  explicit TextGenerator(const config::Config& config);

  // The prompt of the config and what the model makes of it.
  std::string sample(Context& context, plan::PlannedRun& run, uint64_t seed) const;

 private:
  config::Sampling sampling_;
  std::unique_ptr<data::Tokenizer> tokenizer_;  // none: "gpt2"
  std::vector<int32_t> prompt_;                 // end-of-text, then the prompt
};

}  // namespace kiln::train
