#include "src/train/generate_text.h"

#include <fmt/format.h>

#include <chrono>
#include <vector>

#include "src/core/error.h"
#include "src/core/log.h"
#include "src/train/generate.h"
#include "src/train/run_tokenizer.h"
#include "src/train/utf8.h"

namespace kiln::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::unique_ptr<data::Tokenizer> open_tokenizer_of(const config::Config& config,
                                                   const std::string& asked_for) {
  auto tokenizer = open_model_tokenizer(config, asked_for, config.data.train);
  if (tokenizer) return tokenizer;
  throw Error(
      ExitCode::usage,
      fmt::format("the run names no tokenizer file (data.tokenizer = \"{}\")", config.data.tokenizer),
      "--tokenizer PATH gives one: a folder with GPT-2's vocab.json and merges.txt, or gpt2.tiktoken");
}

// Holds back what is no whole character yet.
class TextStream {
 public:
  explicit TextStream(const TextSink& sink) : sink_(sink) {}
  bool add(std::string_view text) {
    held_ += text;
    const size_t n = complete_characters(held_);
    const bool listening = n == 0 || sink_(std::string_view(held_).substr(0, n));
    held_.erase(0, n);
    return listening;
  }
  bool finish() {  // however incomplete
    const bool listening = held_.empty() || sink_(held_);
    held_.clear();
    return listening;
  }

 private:
  const TextSink& sink_;
  std::string held_;
};

class TextWriter {
 public:
  TextWriter(const GenerationRequest& request, const TextSink& sink)
      : request_(request),
        sink_(sink),
        found_(find_model(request.model)),
        tokenizer_(open_tokenizer_of(found_.config, request.tokenizer)),
        model_(found_, plan::Purpose::generation) {
    prompt_ = {tokenizer_->end_of_text()};
    tokenizer_->encode(request.prompt, prompt_);
    const auto& m = found_.config.model;
    log_info(fmt::format("{} (step {}): {} layers, width {}, sequences of {} tokens; {} planned",
                         found_.checkpoint.string(), found_.step, m.layers, m.width, context_tokens(),
                         bytes_text(model_.run().plan.layout().total_bytes)));
    const auto tokens = static_cast<int64_t>(prompt_.size());
    if (tokens > context_tokens()) {
      log_info(fmt::format("the prompt is {} tokens long: the model reads the last {} of them", tokens,
                           context_tokens()));
    }
  }

  void write() {
    bool listening = true;
    for (int64_t i = 0; i < request_.samples && listening; i++) {
      if (request_.samples > 1) listening = sink_(fmt::format("--- sample {} ---\n", i + 1));
      listening = listening && write_sample(static_cast<uint64_t>(i)) && sink_("\n");
    }
    report();
  }

 private:
  int64_t context_tokens() const { return found_.config.train.sequence; }

  bool write_sample(uint64_t number) {
    TextStream stream(sink_);
    if (request_.print_prompt && !stream.add(request_.prompt)) return false;
    Generation generation(model_.context(), model_.run(), prompt_, request_.sampling, request_.seed, number);
    std::string text;
    for (int64_t i = 0; i < request_.tokens; i++) {
      if (i > 0 && generation.full() && filled_++ == 0) first_filled_ = number + 1;
      const auto start = Clock::now();
      const int32_t token = generation.next();
      (i == 0 ? prompt_seconds_ : seconds_) += seconds_since(start);
      (i == 0 ? prompts_ : tokens_)++;
      if (token == tokenizer_->end_of_text() && !request_.ignore_end) break;
      text.clear();
      tokenizer_->decode({&token, 1}, text);
      if (!stream.add(text)) return false;
    }
    return stream.finish();
  }

  // After the text: in the middle of it a note would be taken for text.
  void report() const {
    if (filled_ > 0) {
      log_info(
          fmt::format("the context of {} tokens was full {} time{}, first in sample {}: each time the model "
                      "forgot all but "
                      "the last {}",
                      context_tokens(), filled_, filled_ == 1 ? "" : "s", first_filled_,
                      std::max<int64_t>(context_tokens() / 2, 1)));
    }
    const auto per_second = [](int64_t n, double seconds) {
      return seconds > 0 ? static_cast<double>(n) / seconds : 0.0;
    };
    const int64_t prompt = std::min(static_cast<int64_t>(prompt_.size()), context_tokens());
    const auto count = [](int64_t n) { return fmt::format("{} token{}", n, n == 1 ? "" : "s"); };
    log_info(fmt::format("prompt: {}, {:.0f} tokens/s; then {}, {:.1f} tokens/s", count(prompt),
                         per_second(prompts_ * prompt, prompt_seconds_), count(tokens_),
                         per_second(tokens_, seconds_)));
  }

  const GenerationRequest& request_;
  const TextSink& sink_;
  FoundModel found_;
  std::unique_ptr<data::Tokenizer> tokenizer_;
  TrainedModel model_;
  std::vector<int32_t> prompt_;  // end-of-text, then the prompt
  double prompt_seconds_ = 0, seconds_ = 0;
  int64_t prompts_ = 0, tokens_ = 0;  // the first token of each sample is part of reading its prompt
  int64_t filled_ = 0;                // how often a context was full
  uint64_t first_filled_ = 0;         // number of that sample, from 1
};

}  // namespace

void generate_text(const GenerationRequest& request, const TextSink& sink) {
  check_sampling(request.sampling);  // before a model is read
  TextWriter(request, sink).write();
}

}  // namespace kiln::train
