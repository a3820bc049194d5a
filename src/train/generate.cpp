#include "src/train/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "data/tokenizer.h"
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

std::string generate_text(Context& context, plan::PlannedRun& run, const std::string& tokenizer,
                          const std::string& prompt, const SamplingOptions& options) {
  if (tokenizer == data::kBytes) {
    const auto bytes = data::open_tokenizer(tokenizer);
    std::vector<int32_t> ids{bytes->end_of_text()};
    bytes->encode(prompt, ids);
    std::string text = prompt;
    bytes->decode(generate(context, run, ids, options), text);
    return text;
  }
  constexpr int32_t kGpt2EndOfText = 50256;
  return fmt::format("token ids: {}", fmt::join(generate(context, run, {kGpt2EndOfText}, options), " "));
}

}  // namespace kiln::train
