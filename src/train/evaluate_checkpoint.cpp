#include "src/train/evaluate_checkpoint.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "src/core/error.h"
#include "src/train/progress.h"
#include "src/train/run_tokenizer.h"

namespace kiln::train {
namespace {

using Clock = std::chrono::steady_clock;

struct ReportedTokenizer {
  std::unique_ptr<data::Tokenizer> tokenizer;
  std::string problem;  // why there is none
};

// One that was asked for has to fit; of the run's own, figures that do not need it must not depend on it.
ReportedTokenizer open_reported(const config::Config& config, const std::string& asked_for,
                                const std::string& shards) {
  try {
    ReportedTokenizer opened{open_model_tokenizer(config, asked_for, shards), {}};
    if (!opened.tokenizer) opened.problem = "the run's data.tokenizer names no file (--tokenizer gives one)";
    return opened;
  } catch (const Error& e) {
    if (!asked_for.empty()) throw;
    return {nullptr, e.what()};
  }
}

// Decoding is done token by token, so that the bytes of each, and how often it occurs, are the bytes of all.
int64_t text_bytes(const data::Tokenizer& tokenizer, const int64_t* counts, int64_t vocab) {
  int64_t bytes = 0;
  std::string text;
  for (int32_t id = 0; id < vocab; id++) {
    if (counts[id] == 0 || id == tokenizer.end_of_text()) continue;
    text.clear();
    tokenizer.decode({&id, 1}, text);
    bytes += counts[id] * static_cast<int64_t>(text.size());
  }
  return bytes;
}

}  // namespace

double EvaluationReport::perplexity() const {
  return std::exp(result.loss);
}

std::optional<double> EvaluationReport::bits_per_byte() const {
  if (!bytes || *bytes == 0) return std::nullopt;
  return result.loss * static_cast<double>(result.tokens) / std::numbers::ln2 / static_cast<double>(*bytes);
}

EvaluationReport evaluate_checkpoint(const EvaluationRequest& request,
                                     const std::function<void(const EvaluationProgress&)>& progress) {
  const FoundModel found = find_model(request.model);
  const config::Config& config = found.config;
  EvaluationReport report{.checkpoint = found.checkpoint,
                          .step = found.step,
                          .data = request.data.empty() ? config.data.validation : request.data,
                          .result = {},
                          .bytes = {},
                          .tokenizer = {}};
  if (report.data.empty()) {
    throw Error(ExitCode::usage, "the run has no validation set (data.validation is empty)",
                "name token shards with --data 'FOLDER/validation_*.bin'");
  }
  const data::Dataset dataset(report.data, config.model.vocab, config.train.sequence);
  report.data_tokens = dataset.tokens();
  const ReportedTokenizer reported = open_reported(config, request.tokenizer, report.data);
  TrainedModel model(found, plan::Purpose::evaluation);

  const int64_t batch = model.run().validation_batch * model.run().shape.T;
  int64_t tokens = predicted_tokens(dataset);
  if (request.batches > 0 && request.batches <= tokens / batch) tokens = request.batches * batch;
  const auto start = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  report.result = evaluate(model.context(), model.run(), dataset, tokens, [&](int64_t done) {
                    progress({.done = done, .total = tokens, .seconds = seconds()});
                  }).value();
  report.seconds = seconds();
  report.tokenizer = reported.problem;
  if (reported.tokenizer) {
    report.tokenizer = reported.tokenizer->name();
    report.bytes = text_bytes(*reported.tokenizer, model.run().token_counts, model.run().vocab);
  }
  return report;
}

std::string to_text(const EvaluationReport& r) {
  std::string text =
      fmt::format("{} (step {})\n{}: {} of {} tokens, each from at most those before it in its sequence\n",
                  r.checkpoint.string(), r.step, r.data, r.result.tokens, r.data_tokens);
  text += fmt::format("loss             {:.6f} nats/token\n", r.result.loss);
  text += fmt::format("perplexity       {:.3f}\n", r.perplexity());
  if (const auto bits = r.bits_per_byte()) {
    text += fmt::format("bits per byte    {:.6f} ({} bytes of text, tokenizer {})\n", *bits, *r.bytes,
                        r.tokenizer);
  } else {
    text += fmt::format("bits per byte    unknown: {}\n", r.bytes ? "the tokens are no text" : r.tokenizer);
  }
  text +=
      fmt::format("unigram entropy  {:.6f} nats/token (a model that only knows how common each token is)\n",
                  r.result.unigram_entropy);
  return text + fmt::format("took {}, {:.0f} tokens/s\n", duration_text(r.seconds), r.tokens_per_second());
}

std::string to_json(const EvaluationReport& r) {
  nlohmann::ordered_json json = {{"checkpoint", r.checkpoint.string()},
                                 {"step", r.step},
                                 {"data", r.data},
                                 {"data_tokens", r.data_tokens},
                                 {"tokens", r.result.tokens},
                                 {"loss", r.result.loss},
                                 {"perplexity", r.perplexity()},
                                 {"bits_per_byte", nullptr},
                                 {"bytes", nullptr},
                                 {r.bytes ? "tokenizer" : "tokenizer_problem", r.tokenizer},
                                 {"unigram_entropy", r.result.unigram_entropy},
                                 {"seconds", r.seconds},
                                 {"tokens_per_second", r.tokens_per_second()}};
  if (r.bytes) json["bytes"] = *r.bytes;
  if (const auto bits = r.bits_per_byte()) json["bits_per_byte"] = *bits;
  // A path may be no UTF-8; the figures are not lost over that.
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace kiln::train
