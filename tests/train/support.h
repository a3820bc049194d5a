// A small run with data of its own, for the tests of training steps and validation.
#pragma once

#include <barrier>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "src/config/schema.h"
#include "src/train/step.h"
#include "tests/core/temporary_folder.h"
#include "tests/models/harness.h"

namespace kiln::train {

inline void write_shard(const std::filesystem::path& path, const std::vector<int32_t>& tokens) {
  data::ShardWriter writer(path, data::kShard16);
  writer.append(tokens);
  writer.close();
}

// Inputs and targets, (T) each; T is the dataset's.
inline std::pair<std::vector<int32_t>, std::vector<int32_t>> window_of(const data::Dataset& dataset,
                                                                       int64_t window, int64_t T) {
  std::vector<int32_t> tokens(static_cast<size_t>(T)), targets(static_cast<size_t>(T));
  dataset.read_window(window, tokens.data(), targets.data());
  return {tokens, targets};
}

// Sizes that no vector length divides; a padded vocabulary; positions behind the end of the sequences.
inline config::Config small_config(int64_t micro_batch, int64_t micro_batches) {
  config::Config c;
  c.model = {.family = "gpt2",
             .layers = 2,
             .width = 12,
             .heads = 3,
             .ffn = 21,
             .vocab = 29,
             .vocab_multiple = 8,
             .context = 11,
             .tied = "on",
             .norm_eps = 1e-5};
  c.train.micro_batch = micro_batch;
  c.train.sequence = 7;
  c.train.tokens_per_step = micro_batch * micro_batches * 7;
  c.train.loss_rows = 5;
  c.train.seed = 1337;
  c.optimizer = config::defaults().optimizer;
  c.optimizer.name = "adamw";
  c.optimizer.lr = 1e-2;
  c.optimizer.b1 = 0.9;
  c.optimizer.b2 = 0.95;
  c.optimizer.eps = 1e-8;
  c.optimizer.wd = 0.1;
  c.validation.tokens = micro_batch * 7;
  return c;
}

// A model that tells what it was asked to do, and lets a test meddle.
class WatchedModel final : public models::Model {
 public:
  struct Call {
    std::vector<int32_t> tokens, targets;  // (B, T)
    int64_t B, T;
    float scale;
  };

  explicit WatchedModel(std::unique_ptr<models::Model> model) : model_(std::move(model)) {}

  std::vector<Call> calls;            // of forward_backward, as they came
  std::vector<Call> forward_calls;    // of forward; no scale
  std::function<void(Call&)> before;  // may change what the model computes
  std::function<void()> after;        // may change the gradients

  ParameterTable& parameters() override { return model_->parameters(); }
  void plan(Plan& plan, const models::BatchShape& shape, DType dtype, const Device& device) override {
    model_->plan(plan, shape, dtype, device);
  }
  void bind(const Arena& arena) override { model_->bind(arena); }
  void initialise(Context& context, uint64_t seed) override { model_->initialise(context, seed); }
  void forward_backward(Context& context, const int32_t* tokens, const int32_t* targets, int64_t B, int64_t T,
                        float scale, float* losses) override {
    Call call{{tokens, tokens + B * T}, {targets, targets + B * T}, B, T, scale};
    calls.push_back(call);
    if (before) before(call);
    model_->forward_backward(context, call.tokens.data(), call.targets.data(), B, T, call.scale, losses);
    if (after) after();
  }
  void forward(Context& context, const int32_t* tokens, const int32_t* targets, int64_t B, int64_t T,
               float* losses) override {
    forward_calls.push_back({{tokens, tokens + B * T}, {targets, targets + B * T}, B, T, 0});
    model_->forward(context, tokens, targets, B, T, losses);
  }
  void prefill(Context& context, const int32_t* tokens, int64_t T, int64_t count, float* logits) override {
    model_->prefill(context, tokens, T, count, logits);
  }
  void decode(Context& context, const int32_t* token, int64_t position, float* logits) override {
    model_->decode(context, token, position, logits);
  }

 private:
  std::unique_ptr<models::Model> model_;
};

// What the trainer makes of a config, bound and ready. Its weights are spread wide enough that windows have
// clearly different losses and attention is far from uniform; the same for any shape of the batch.
struct RunBench {
  RunBench(const config::Config& config, const std::string& shards, int threads = 2,
           ArenaMode mode = ArenaMode::discrete)
      : device(cpu_device(threads)),
        pool(threads),
        dataset(shards, config.model.vocab, config.train.sequence),
        sampler(dataset.windows(), config.train.seed),
        ranks(dist::single_rank()),
        run(plan::plan_run(config, device)),
        arena(run.plan, mode, device) {
    run.bind(arena);
    context.device = device;
    context.pool = &pool;
    context.workspace = run.workspace;
    run.model->initialise(context, config.train.seed);
    for (Parameter& p : parameters().all()) {
      const Random random(5, hash_name(p.name.c_str()));
      const int64_t n = p.name == "wte.weight" ? run.vocab * p.shape[1] : p.elements();  // padding stays zero
      for (int64_t i = 0; i < n; i++) {
        p.master[i] += static_cast<float>(0.3 * random.normal(static_cast<uint64_t>(i)));
      }
    }
    parameters().bump_versions();
  }
  RunBench(const RunBench&) = delete;

  ParameterTable& parameters() { return run.model->parameters(); }

  StepResult step(const StepOptions& options = {.clip = 0, .lr_multiplier = 1}) {
    return train_step(context, run, dataset, sampler, *ranks, options, position);
  }

  // From now on the model is watched.
  WatchedModel& watch() {
    auto watched = std::make_unique<WatchedModel>(std::move(run.model));
    WatchedModel& model = *watched;
    run.model = std::move(watched);
    return model;
  }

  std::vector<std::vector<float>> gradients() {
    std::vector<std::vector<float>> all;
    for (const Parameter& p : parameters().all()) all.emplace_back(p.gradient, p.gradient + p.elements());
    return all;
  }
  std::vector<std::vector<float>> weights() {
    std::vector<std::vector<float>> all;
    for (const Parameter& p : parameters().all()) all.emplace_back(p.master, p.master + p.elements());
    return all;
  }

  // Weights and optimizer state, to be compared bit for bit (NaNs included).
  std::string bytes() {
    std::string bytes;
    const auto add = [&](const float* x, int64_t n) {
      bytes.append(reinterpret_cast<const char*>(x), static_cast<size_t>(n) * sizeof(float));
    };
    for (const Parameter& p : parameters().all()) add(p.master, p.elements());
    for (const auto& s : run.optimizers->state_tensors()) add(s.data, s.rows * s.cols);
    return bytes;
  }

  Device device;
  ThreadPool pool;
  data::Dataset dataset;
  data::Sampler sampler;
  std::unique_ptr<dist::Communicator> ranks;
  plan::PlannedRun run;
  Arena arena;
  Context context;
  Position position;
};

// Ranks that are threads of one process and meet at a barrier.
struct MeetingPlace {
  explicit MeetingPlace(int size) : barrier(size), data(static_cast<size_t>(size)) {}
  std::barrier<> barrier;
  std::vector<void*> data;  // of each rank
};

class ThreadRank final : public dist::Communicator {
 public:
  ThreadRank(MeetingPlace& place, int rank) : place_(place), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(place_.data.size()); }
  void sum(float* data, int64_t n) override { add(data, n); }
  void sum(double* data, int64_t n) override { add(data, n); }
  bool any(bool flag) override {
    double flags = flag ? 1 : 0;
    add(&flags, 1);
    return flags > 0;
  }

 private:
  void show(void* data) {
    place_.data[static_cast<size_t>(rank_)] = data;
    place_.barrier.arrive_and_wait();
  }
  template <class T>
  void add(T* data, int64_t n) {
    show(data);
    std::vector<T> total(static_cast<size_t>(n));
    for (const void* of_rank : place_.data) {
      for (int64_t i = 0; i < n; i++) total[static_cast<size_t>(i)] += static_cast<const T*>(of_rank)[i];
    }
    place_.barrier.arrive_and_wait();  // all have read
    std::copy(total.begin(), total.end(), data);
  }

  MeetingPlace& place_;
  int rank_;
};

}  // namespace kiln::train
