// A model with its memory, threads and the fixtures' numbers, for the tests of this folder.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/table.h"
#include "models/families/gpt2.h"
#include "models/families/llama.h"
#include "models/transformer.h"
#include "src/core/random.h"
#include "src/core/safetensors.h"
#include "tests/paths.h"

namespace kiln::models {

// The models of the fixtures; a vocabulary of 67 padded to 96.
inline ModelShape tiny_shape() {
  return {.layers = 3,
          .width = 48,
          .heads = 3,
          .ffn = 192,
          .vocab = 67,
          .padded_vocab = 96,
          .context = 41,
          .norm_eps = 1e-5};
}
inline ModelShape tiny_llama(bool tied) {
  return {.layers = 2,
          .width = 48,
          .heads = 6,
          .kv_heads = 2,
          .ffn = 104,
          .vocab = 67,
          .padded_vocab = 96,
          .context = 41,
          .tied = tied,
          .norm_eps = 1e-6,
          .rope_theta = 10000};
}
// A model of the fixtures with a way to run it.
struct Variant {
  const char* fixture;  // "gpt2", "llama", "llama_tied"
  ArenaMode arena;
  bool recompute = false;

  bool is_gpt2() const { return std::string_view(fixture) == "gpt2"; }
  families::Family family() const { return is_gpt2() ? families::gpt2::kFamily : families::llama::kFamily; }
  ModelShape shape() const {
    return is_gpt2() ? tiny_shape() : tiny_llama(std::string_view(fixture) == "llama_tied");
  }
  std::string file() const { return std::string(fixture) + "_tiny.safetensors"; }
};
inline constexpr Variant kVariants[] = {{"gpt2", ArenaMode::slab},
                                        {"gpt2", ArenaMode::discrete},
                                        {"gpt2", ArenaMode::slab, true},
                                        {"gpt2", ArenaMode::discrete, true},
                                        {"llama", ArenaMode::slab},
                                        {"llama", ArenaMode::discrete},
                                        {"llama", ArenaMode::slab, true},
                                        {"llama_tied", ArenaMode::discrete},
                                        {"llama_tied", ArenaMode::discrete, true}};
inline std::string variant_name(const ::testing::TestParamInfo<Variant>& info) {
  return fmt::format("{}_{}{}", info.param.fixture, info.param.arena == ArenaMode::slab ? "slab" : "discrete",
                     info.param.recompute ? "_recompute" : "");
}
inline BatchShape tiny_batch() {
  return {.B = 3, .T = 37, .loss_rows = 111, .training = true, .cache = 37};
}

struct BenchOptions {
  int threads = 2;
  ArenaMode arena = ArenaMode::slab;
  std::string isa = "auto";
  families::Family family = families::gpt2::kFamily;
};

// A model that is ready to run, its parameters zero, its activations NaN: whatever a pass reads it must have
// written.
class Bench {
 public:
  Bench(const ModelShape& model_shape, const BatchShape& batch_shape, const BenchOptions& options = {})
      : shape(model_shape),
        batch(batch_shape),
        model(create_transformer(options.family, model_shape)),
        pool_(options.threads) {
    context.device = cpu_device(options.threads, options.isa);
    model->parameters().plan(plan_, DType::f32, batch.training);
    model->plan(plan_, batch, DType::f32, context.device);
    const BufferId workspace = plan_.add("workspace", Category::workspace, workspace_bytes());
    arena_ = std::make_unique<Arena>(plan_, options.arena, context.device);
    model->parameters().bind(*arena_);
    model->bind(*arena_);
    context.pool = &pool_;
    context.workspace = Workspace(arena_->at<void>(workspace), plan_.entries()[workspace].bytes);
    poison_activations();
  }

  ParameterTable& parameters() { return model->parameters(); }

  Parameter& parameter(const std::string& name) {
    for (Parameter& p : parameters().all()) {
      if (p.name == name) return p;
    }
    throw std::out_of_range(name);
  }

  void zero_gradients() {
    for (const Parameter& p : parameters().all()) {
      kernels::set_zero(context, {.x = p.gradient, .bytes = p.elements() * 4, .dtype = DType::f32});
    }
  }

  std::vector<float> gradients() {
    std::vector<float> all;
    for (const Parameter& p : parameters().all())
      all.insert(all.end(), p.gradient, p.gradient + p.elements());
    return all;
  }

  // Losses (B, T) of one pass; tokens and targets are (B, T).
  std::vector<float> forward_backward(const std::vector<int32_t>& tokens, const std::vector<int32_t>& targets,
                                      int64_t B, int64_t T, float scale) {
    poison_activations();
    std::vector<float> losses(static_cast<size_t>(B * T), NAN);
    model->forward_backward(context, tokens.data(), targets.data(), B, T, scale, losses.data());
    return losses;
  }
  std::vector<float> forward(const std::vector<int32_t>& tokens, const std::vector<int32_t>& targets,
                             int64_t B, int64_t T) {
    poison_activations();
    std::vector<float> losses(static_cast<size_t>(B * T), NAN);
    model->forward(context, tokens.data(), targets.data(), B, T, losses.data());
    return losses;
  }
  std::vector<float> prefill(const std::vector<int32_t>& tokens, int64_t T, int64_t count) {
    poison_activations();
    std::vector<float> logits(static_cast<size_t>(shape.padded_vocab), NAN);
    model->prefill(context, tokens.data(), T, count, logits.data());
    return logits;
  }
  std::vector<float> decode(int32_t token, int64_t position) {
    poison_activations(/*cache_too=*/false);
    std::vector<float> logits(static_cast<size_t>(shape.padded_vocab), NAN);
    model->decode(context, &token, position, logits.data());
    return logits;
  }

  ModelShape shape;
  BatchShape batch;
  std::unique_ptr<Model> model;
  Context context;

 private:
  size_t workspace_bytes() {
    DryRun dry_run;
    Context dry;
    dry.device = context.device;
    dry.dry_run = &dry_run;
    if (batch.training) model->forward_backward(dry, nullptr, nullptr, batch.B, batch.T, 1.0f, nullptr);
    model->forward(dry, nullptr, nullptr, batch.B, batch.T, nullptr);
    if (batch.cache > 0) {
      for (int64_t T = 1; T <= batch.T; T++) model->prefill(dry, nullptr, T, 1, nullptr);
      model->decode(dry, nullptr, batch.cache - 1, nullptr);
    }
    return dry_run.workspace_bytes;
  }

  void poison_activations(bool cache_too = true) {
    for (size_t i = 0; i < plan_.entries().size(); i++) {
      const PlanEntry& entry = plan_.entries()[i];
      const bool scratch = entry.category == Category::activations || entry.category == Category::workspace;
      if (scratch && entry.bytes && (cache_too || !entry.name.ends_with("_cache")))
        std::memset(arena_->at<void>(static_cast<BufferId>(i)), 0xFF, entry.bytes);
    }
  }

  ThreadPool pool_;
  Plan plan_;
  std::unique_ptr<Arena> arena_;
};

template <class T>
std::vector<T> values(const SafetensorsFile& file, const std::string& name) {
  const TensorView& tensor = file.tensor(name);
  std::vector<T> v(tensor.bytes.size() / sizeof(T));
  std::memcpy(v.data(), tensor.bytes.data(), tensor.bytes.size());
  return v;
}

inline SafetensorsFile fixture(const std::string& name) {
  return SafetensorsFile(paths::fixtures() + "/" + name);
}

// Parameters of the fixture; the padded rows of wte and head stay zero.
inline void load_parameters(ParameterTable& parameters, const SafetensorsFile& file) {
  for (Parameter& p : parameters.all()) {
    const std::vector<float> v = values<float>(file, "param/" + p.name);
    std::memcpy(p.master, v.data(), v.size() * sizeof(float));
  }
  parameters.bump_versions();
}

// How far `is` lies from `expected`: in the 2-norm relative to the norm, in the largest element relative to
// the largest.
struct Difference {
  double norm = 0, max = 0;
};
inline Difference difference(const float* is, const float* expected, size_t n) {
  double distance = 0, size = 0, worst = 0, largest = 0;
  for (size_t i = 0; i < n; i++) {
    const double d = std::abs(static_cast<double>(is[i]) - expected[i]);
    distance += d * d;
    size += static_cast<double>(expected[i]) * expected[i];
    worst = d > worst || std::isnan(d) ? d : worst;
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
  }
  return {std::sqrt(distance / size), worst / largest};
}
inline Difference difference(const std::vector<float>& is, const std::vector<float>& expected) {
  EXPECT_EQ(is.size(), expected.size());
  return difference(is.data(), expected.data(), std::min(is.size(), expected.size()));
}

// Tokens of a sequence in [0, V).
inline std::vector<int32_t> random_tokens(int64_t n, int64_t V, uint64_t stream) {
  const Random random(7, stream);
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  for (size_t i = 0; i < tokens.size(); i++) {
    tokens[i] = static_cast<int32_t>(random.uniform(i) * static_cast<double>(V));
  }
  return tokens;
}

}  // namespace kiln::models
