#include "src/train/bench.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <map>
#include <numeric>
#include <optional>

#include "src/core/error.h"
#include "src/core/log.h"
#include "src/core/random.h"
#include "src/plan/advice.h"
#include "src/plan/device.h"
#include "src/train/ceiling.h"
#include "src/train/median.h"
#include "src/train/startup.h"
#include "src/train/step.h"
#include "src/train/stop.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// A folder of its own that goes away again.
class TokenFile {
 public:
  TokenFile(int64_t vocab, int64_t tokens, uint64_t seed) {
    std::string name = (fs::temp_directory_path() / "kiln-bench-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
      throw Error(ExitCode::data, fmt::format("cannot make {}: {}", name, std::strerror(errno)),
                  "set TMPDIR to a folder that can be written");
    }
    folder_ = name;
    const Random random(seed, hash_name("bench"));
    data::ShardWriter writer(path(), data::shard_format(vocab));
    std::vector<int32_t> piece;
    for (int64_t i = 0; i < tokens; i++) {
      piece.push_back(
          static_cast<int32_t>(random.uniform(static_cast<uint64_t>(i)) * static_cast<double>(vocab)));
      if (piece.size() == 65536 || i + 1 == tokens) {
        writer.append(piece);
        piece.clear();
      }
    }
    writer.close();
  }
  ~TokenFile() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  TokenFile(const TokenFile&) = delete;
  TokenFile& operator=(const TokenFile&) = delete;
  fs::path path() const { return folder_ / "tokens.bin"; }

 private:
  fs::path folder_;
};

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

class Bench {
 public:
  Bench(const config::Config& config, const BenchOptions& options)
      : config_(with_micro_batches(config, options)),
        options_(options),
        device_(plan::device_of(config.device)),
        pool_(device_.threads),
        run_(plan::plan_run(config_, device_)),
        ranks_(dist::single_rank()) {
    plan::with_advice(config_, run_, device_,
                      [&] { require_memory(run_.plan.layout(), device_); });  // before anything is written
    // Enough for a step to read nothing twice, as far as that costs no time to speak of.
    tokens_.emplace(config.model.vocab,
                    std::min<int64_t>(config_.train.tokens_per_step, int64_t{1} << 22) + 1,
                    config.train.seed);
    dataset_.emplace(tokens_->path().string(), config.model.vocab, config.train.sequence);
    sampler_.emplace(dataset_->windows(), config.train.seed);
    context_.device = device_;
    context_.pool = &pool_;
    result_.measured_peak_gflops = measure_ceiling(context_);
    result_.peak_gflops = result_.measured_peak_gflops;
    plan::with_advice(config_, run_, device_, [&] {
      arena_.emplace(run_.plan, config.device.arena == "slab" ? ArenaMode::slab : ArenaMode::discrete,
                     device_);
    });
    run_.bind(*arena_);
    context_.workspace = run_.workspace;
    run_.model->initialise(context_, config.train.seed);
    result_.config_micro_batches = config.train.tokens_per_step / (run_.shape.B * run_.shape.T);
  }

  BenchResult run(const std::function<void(int64_t, int64_t)>& progress) {
    const int64_t all = options_.warmup + options_.steps;
    for (int64_t i = 0; i < all; i++) {
      if (progress) progress(i, all);
      step(i >= options_.warmup);
    }
    if (progress) progress(all, all);
    return finish();
  }

 private:
  static config::Config with_micro_batches(config::Config config, const BenchOptions& options) {
    if (options.micro_batches > 0) {
      config.train.tokens_per_step = options.micro_batches * config.train.micro_batch * config.train.sequence;
    }
    return config;
  }

  void step(bool counts) {
    StepTimes times;
    // Noise needs no learning: small updates keep the weights, and so the gradients, where they are.
    constexpr double kLearningRate = 0.01;
    const auto start = Clock::now();
    const StepResult result = train_step(
        context_, run_, *dataset_, *sampler_, *ranks_,
        {.clip = config_.train.clip, .lr_multiplier = kLearningRate, .metrics = nullptr, .times = &times},
        position_);
    const double ms = ms_since(start);
    if (result.abandoned) throw Error(ExitCode::interrupted, "stopped by a signal", "nothing was written");
    if (result.skipped) {
      throw Error(ExitCode::failure, fmt::format("the gradient of step {} is not finite", position_.step),
                  "a lower optimizer.lr keeps it finite; what is measured does not depend on it");
    }
    if (!counts) return;
    result_.peak_gflops = std::max(result_.peak_gflops, flops_per_step() * 1e-6 / ms);
    result_.step_ms.push_back(ms);
    passes_.push_back(times.passes * 1e3);
    std::map<std::string, double> by_name;
    for (size_t i = 0; i < times.optimizers.size(); i++) {
      by_name[std::string(run_.optimizers->groups()[i].optimizer->name())] += times.optimizers[i] * 1e3;
    }
    double named = passes_.back();
    for (const auto& [name, part] : by_name) {
      optimizers_[name].push_back(part);
      named += part;
    }
    rest_.push_back(std::max(0.0, ms - named));
  }

  double flops_per_step() const { return run_.training_flops * static_cast<double>(run_.micro_batches); }

  BenchResult finish() {
    result_.device = fmt::format("{} ({}, {} threads)", device_.name, name_of(device_.isa), device_.threads);
    result_.peak_shape = kernels::gemm_peak_shape(device_);
    result_.planned_bytes = run_.plan.layout().total_bytes;
    result_.step_tokens = config_.train.tokens_per_step;
    result_.micro_batches = run_.micro_batches;
    result_.steps = options_.steps;
    result_.flops_per_token = flops_per_step() / static_cast<double>(result_.step_tokens);
    result_.step = spread_of(result_.step_ms);
    result_.passes = spread_of(passes_);
    result_.rest = spread_of(rest_);
    for (const auto& [name, times] : optimizers_) result_.optimizers.emplace_back(name, spread_of(times));
    return std::move(result_);
  }

  config::Config config_;
  BenchOptions options_;
  Device device_;
  ThreadPool pool_;
  plan::PlannedRun run_;
  std::optional<TokenFile> tokens_;
  std::optional<data::Dataset> dataset_;
  std::optional<data::Sampler> sampler_;
  std::unique_ptr<dist::Communicator> ranks_;
  Context context_;
  std::optional<Arena> arena_;
  Position position_;
  std::vector<double> passes_, rest_;
  std::map<std::string, std::vector<double>> optimizers_;
  BenchResult result_;
};

}  // namespace

Spread spread_of(const std::vector<double>& values) {
  require(!values.empty(), "a spread of nothing");
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  return {.median = median_of(values), .least = *least, .most = *most, .mean = mean};
}

double BenchResult::optimizer_mean_ms() const {
  double sum = 0;
  for (const auto& [name, spread] : optimizers) sum += spread.mean;
  return sum;
}

double BenchResult::tokens_per_second() const {
  return static_cast<double>(step_tokens) / step.mean * 1e3;
}

double BenchResult::mfu() const {
  return tokens_per_second() * flops_per_token / (peak_gflops * 1e9);
}

double BenchResult::config_step_ms() const {
  const double scale = static_cast<double>(config_micro_batches) / static_cast<double>(micro_batches);
  return step.mean + (scale - 1) * passes.mean;
}

BenchResult bench(const config::Config& config, const BenchOptions& options,
                  const std::function<void(int64_t, int64_t)>& progress) {
  const std::string warning = thread_warning(config.device.threads, cpu_device().threads);
  if (!warning.empty()) log_warning(warning);
  install_stop_signals();
  return Bench(config, options).run(progress);
}

}  // namespace kiln::train
