// `kiln eval`: how well a trained model predicts a set of tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "src/train/evaluate.h"
#include "src/train/trained_model.h"

namespace kiln::train {

struct EvaluationRequest {
  ModelSource model;
  std::string data;       // pattern of token shards; empty: the run's validation set
  std::string tokenizer;  // as open_tokenizer() takes it; empty: the run's
  int64_t batches = 0;    // passes at most, each of validation's size during training; 0: everything
};

struct EvaluationReport {
  std::filesystem::path checkpoint;
  int64_t step = 0;
  std::string data;         // the pattern
  int64_t data_tokens = 0;  // in it
  Evaluation result;
  double seconds = 0;

  // What the predicted tokens decode to; end-of-text, which is no text, counts nothing.
  std::optional<int64_t> bytes;
  std::string tokenizer;  // its name; without bytes: why they are not known

  double tokens_per_second() const { return static_cast<double>(result.tokens) / seconds; }
  double perplexity() const;
  std::optional<double> bits_per_byte() const;
};

struct EvaluationProgress {
  int64_t done, total;  // tokens
  double seconds;
};

// Throws what find_model(), data::Dataset and, for a tokenizer that is asked for, open_run_tokenizer() throw;
// Error(ExitCode::usage) when there is no data.
EvaluationReport evaluate_checkpoint(const EvaluationRequest& request,
                                     const std::function<void(const EvaluationProgress&)>& progress);

std::string to_text(const EvaluationReport& report);  // for people, several lines
std::string to_json(const EvaluationReport& report);  // one object on one line

}  // namespace kiln::train
