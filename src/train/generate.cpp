#include "src/train/generate.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <span>

#include "data/dataset_folder.h"
#include "src/core/error.h"
#include "src/core/random.h"
#include "src/train/stop.h"

namespace kiln::train {

int32_t draw_token(const float* logits, int64_t V, const SamplingOptions& options, double u,
                   int32_t* scratch) {
  std::span<int32_t> order(scratch, static_cast<size_t>(V));
  std::iota(order.begin(), order.end(), 0);
  const auto likelier = [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  if (options.temperature <= 0) return *std::min_element(order.begin(), order.end(), likelier);
  if (options.top_k > 0 && options.top_k < V) {
    std::nth_element(order.begin(), order.begin() + options.top_k, order.end(), likelier);
    order = order.first(static_cast<size_t>(options.top_k));
    std::sort(order.begin(), order.end());
  }
  const float top = logits[*std::min_element(order.begin(), order.end(), likelier)];
  const auto weight = [&](int32_t id) {
    return std::exp((static_cast<double>(logits[id]) - top) / options.temperature);
  };
  double total = 0;
  for (int32_t id : order) total += weight(id);
  double left = u * total;
  for (int32_t id : order) {
    left -= weight(id);
    if (left < 0) return id;
  }
  return order.back();  // u * total rounded up to total
}

std::vector<int32_t> generate(Context& context, plan::PlannedRun& run, const std::vector<int32_t>& prompt,
                              const SamplingOptions& options) {
  require(!prompt.empty(), "generation needs at least one token to start from");
  const int64_t T = run.shape.T;
  const Random random(options.seed, hash_name("generate"));
  std::vector<int32_t> window(prompt.end() - std::min<int64_t>(T, static_cast<int64_t>(prompt.size())),
                              prompt.end());
  std::vector<int32_t> generated;
  for (int64_t i = 0; i < options.tokens && !stop_requested(); i++) {
    if (static_cast<int64_t>(window.size()) == T) window.erase(window.begin(), window.begin() + (T + 1) / 2);
    if (window.empty()) window.push_back(generated.empty() ? prompt.back() : generated.back());
    std::fill(std::copy(window.begin(), window.end(), run.tokens), run.tokens + T, 0);
    run.model->next_token_logits(context, run.tokens, T, static_cast<int64_t>(window.size()) - 1, run.logits);
    const int32_t token =
        draw_token(run.logits, run.vocab, options, random.uniform(static_cast<uint64_t>(i)), run.candidates);
    generated.push_back(token);
    window.push_back(token);
  }
  return generated;
}

TextGenerator::TextGenerator(const config::Config& config) : prompt_(config.sampling.prompt) {
  const std::string& spec = config.data.tokenizer;
  if (spec == "gpt2") {
    constexpr int32_t kGpt2EndOfText = 50256;
    prompt_tokens_ = {kGpt2EndOfText};
    return;
  }
  tokenizer_ = data::open_tokenizer(spec);
  if (tokenizer_->vocab() > config.model.vocab) {
    throw Error(ExitCode::usage,
                fmt::format("model.vocab = {} is less than the {} tokens of data.tokenizer = \"{}\"", config.model.vocab,
                            tokenizer_->vocab(), spec),
                fmt::format("set model.vocab to {}", tokenizer_->vocab()));
  }
  const auto folder = std::filesystem::path(config.data.train).parent_path();
  const auto dataset = data::read_description(folder);
  if (dataset && dataset->tokenizer_fingerprint != tokenizer_->fingerprint()) {
    const std::string& made_with = dataset->tokenizer_path.empty() ? dataset->tokenizer_name : dataset->tokenizer_path;
    throw Error(ExitCode::usage,
                fmt::format("data.tokenizer = \"{}\" is not the tokenizer that the shards in {} were made with ({})", spec,
                            folder.string(), made_with),
                fmt::format("set data.tokenizer to {}, or prepare the shards anew with this one", made_with));
  }
  prompt_tokens_ = {tokenizer_->end_of_text()};
  tokenizer_->encode(prompt_, prompt_tokens_);
}

std::string TextGenerator::sample(Context& context, plan::PlannedRun& run, const SamplingOptions& options) const {
  const auto tokens = generate(context, run, prompt_tokens_, options);
  if (!tokenizer_) return fmt::format("token ids: {}", fmt::join(tokens, " "));
  std::string text = prompt_;
  tokenizer_->decode(tokens, text);
  return text;
}

}  // namespace kiln::train
