#include "src/train/generate.h"

#include <algorithm>

#include "src/core/error.h"
#include "src/train/run_tokenizer.h"
#include "src/train/stop.h"

namespace kiln::train {

Generation::Generation(Context& context, plan::PlannedRun& run, std::span<const int32_t> prompt,
                       const SamplingOptions& options, uint64_t seed, uint64_t sample)
    : context_(context), run_(run), options_(options), random_(seed, hash_name("generate") + sample) {
  require(!prompt.empty(), "generation needs at least one token to start from");
  require(run.generates(), "a run without a cache cannot generate");
  length_ = std::min(run.shape.T, static_cast<int64_t>(prompt.size()));
  std::copy(prompt.end() - length_, prompt.end(), run.tokens);
}

// Everything at run.tokens goes into the cache.
void Generation::read() {
  const int64_t padded = run_.prefill_length(length_);
  std::fill(run_.tokens + length_, run_.tokens + padded, 0);
  run_.model->prefill(context_, run_.tokens, padded, length_, run_.logits);
}

int32_t Generation::next() {
  if (drawn_ == 0) {
    read();
  } else if (full()) {
    const int64_t kept = std::max<int64_t>(run_.shape.T / 2, 1);  // the latest token included
    std::copy(run_.tokens + length_ - (kept - 1), run_.tokens + length_, run_.tokens);
    run_.tokens[kept - 1] = latest_;
    length_ = kept;
    read();
  } else {
    run_.tokens[length_] = latest_;
    run_.model->decode(context_, &run_.tokens[length_], length_, run_.logits);
    length_++;
  }
  latest_ = draw_token(run_.logits, run_.vocab, options_, random_.uniform(drawn_++), run_.candidates);
  return latest_;
}

TextGenerator::TextGenerator(const config::Config& config)
    : sampling_(config.sampling), tokenizer_(open_run_tokenizer(config, config.data.train)) {
  constexpr int32_t kGpt2EndOfText = 50256;
  prompt_ = {tokenizer_ ? tokenizer_->end_of_text() : kGpt2EndOfText};
  if (tokenizer_) tokenizer_->encode(sampling_.prompt, prompt_);
}

std::string TextGenerator::sample(Context& context, plan::PlannedRun& run, uint64_t seed) const {
  Generation generation(context, run, prompt_,
                        {.temperature = sampling_.temperature, .top_k = sampling_.top_k}, seed);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < sampling_.tokens && !stop_requested(); i++) tokens.push_back(generation.next());
  if (!tokenizer_) return fmt::format("token ids: {}", fmt::join(tokens, " "));
  std::string text = sampling_.prompt;
  tokenizer_->decode(tokens, text);
  return text;
}

}  // namespace kiln::train
