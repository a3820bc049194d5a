#include "src/train/startup.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/gemm_peak.h"
#include "src/plan/describe.h"

namespace kiln::train {
namespace {

std::string data_line(const char* what, const data::Dataset& dataset, const std::string& pattern) {
  return fmt::format("  {:<11}{} tokens in {} shard{}, {} sequences ({})\n", what, dataset.tokens(),
                     dataset.files().size(), dataset.files().size() == 1 ? "" : "s", dataset.windows(),
                     pattern);
}

// What train.epochs asked for, and how the last step is filled.
std::string epochs_line(const config::Config& config, const plan::PlannedRun& run,
                        const data::Dataset& training, int64_t steps) {
  const int64_t taken = steps * run.micro_batches * run.shape.B;
  const int64_t asked = std::llround(config.train.epochs * static_cast<double>(training.windows()));
  return fmt::format("  train.epochs = {} are {} sequences; the last step is filled up with {} more\n",
                     config.train.epochs, asked, taken - std::max<int64_t>(asked, 1));
}

}  // namespace

std::string startup_text(const config::Config& config, const plan::PlannedRun& run, const Device& device,
                         const data::Dataset& training, const data::Dataset* validation, int64_t steps,
                         const Ceiling& ceiling) {
  const double tokens = static_cast<double>(run.shape.B * run.shape.T);
  const auto& m = config.model;
  std::string text = fmt::format(
      "model: {}, {} layers, width {}, {} heads{}, ffn {}, vocabulary {} (padded to {}), context {}{}\n",
      m.family, m.layers, m.width, m.heads,
      m.kv_heads > 0 && m.kv_heads < m.heads ? fmt::format(" ({} of keys and values)", m.kv_heads) : "",
      m.ffn, m.vocab, run.padded_vocab, m.context,
      config.train.recompute == "block" ? "; blocks are computed again on the way back" : "");
  text += plan::parameter_table(run.model->parameters());
  text += "memory, planned; allocated once, at start:\n" + describe(run.plan.layout()) + "\n";
  text += fmt::format("device: {}, {} ({}, {} threads), precision {}\n", name_of(device.kind), device.name,
                      name_of(device.isa), device.threads, config.train.precision);
  text += "data:\n" + data_line("training", training, config.data.train);
  if (validation) text += data_line("validation", *validation, config.data.validation);
  text += "optimizers:\n" + run.optimizers->describe();
  const int64_t step_tokens = config.train.tokens_per_step;
  text += fmt::format(
      "run: {} steps of {} tokens ({} micro-batch{} of {} x {}) = {} tokens, {:.2f} epochs\n", steps,
      step_tokens, run.micro_batches, run.micro_batches == 1 ? "" : "es", run.shape.B, run.shape.T,
      steps * step_tokens,
      static_cast<double>(steps * step_tokens) / static_cast<double>(training.windows() * run.shape.T));
  if (config.train.epochs > 0) text += epochs_line(config, run, training, steps);
  if (config.train.overfit_one_batch == "on") {
    text += "  train.overfit_one_batch: every step trains on the sequences of the first\n";
  }
  const kernels::GemmPeakShape peak = kernels::gemm_peak_shape(device);
  text += fmt::format("MFU = tokens/s x {:.2f} Mflop/token / {:.1f} Gflop/s\n",
                      run.training_flops / tokens * 1e-6, ceiling.gflops());
  text += plan::flops_text(run, config);
  text += fmt::format(
      "  Gflop/s: 2 x rows x N x K / s, the best fp32 product of {} x {} by {} x {} measured {} through the "
      "same\n"
      "  kernels and threads; it stays that number for the whole run\n",
      peak.rows, peak.K, peak.K, peak.N, ceiling.is_begun() ? "when the run began" : "just now");
  return text;
}

std::string thread_warning(int64_t asked, int64_t usable) {
  if (asked <= usable) return {};
  return fmt::format(
      "device.threads = {}, but this process may run on {} processor{}: threads that wait for each other's "
      "processor are "
      "slower than {} would be (device.threads = 0)",
      asked, usable, usable == 1 ? "" : "s", usable);
}

std::string vocabulary_warning(const config::Config& config, int64_t tokenizer_vocab) {
  const auto& m = config.model;
  if (tokenizer_vocab == 0 || m.vocab <= tokenizer_vocab + tokenizer_vocab / 10) return {};
  return fmt::format(
      "model.vocab = {}, but data.tokenizer = \"{}\" has {} tokens: the embeddings of the other {} are "
      "trained on "
      "nothing and cost time and memory; --set model.vocab={}",
      m.vocab, config.data.tokenizer, tokenizer_vocab, m.vocab - tokenizer_vocab, tokenizer_vocab);
}

}  // namespace kiln::train
