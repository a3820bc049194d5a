// `kiln generate`: what a trained model writes, streamed.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "src/train/sampling.h"
#include "src/train/trained_model.h"

namespace kiln::train {

struct GenerationRequest {
  ModelSource model;
  std::string tokenizer;  // as open_tokenizer() takes it; empty: the run's
  std::string prompt;     // empty: a new document
  int64_t tokens = 256;   // at most, in each sample
  int64_t samples = 1;
  SamplingOptions sampling{.temperature = 0.8};
  uint64_t seed = 1;
  bool ignore_end = false;   // go on after end-of-text
  bool print_prompt = true;  // before what the model adds
};

// Gets text as it is produced, in pieces that do not end within a character as long as the text is UTF-8;
// false: nobody listens any more.
using TextSink = std::function<bool(std::string_view piece)>;

// Every sample is a function of model, prompt, options and its own number. With several samples each comes
// after a line "--- sample N ---". Notes for the person (to log_info): before the text the model and what of a
// long prompt does not fit; after it how often the context was full, and the speed. Throws what check_sampling(),
// find_model() and open_run_tokenizer() throw, and Error(ExitCode::usage) when the run has no tokenizer.
void generate_text(const GenerationRequest& request, const TextSink& sink);

}  // namespace kiln::train
