#include "src/train/trainer.h"

#include <fmt/format.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "kernels/linear.h"
#include "optim/schedule.h"
#include "src/config/load.h"
#include "src/core/error.h"
#include "src/core/log.h"
#include "src/train/checkpoint.h"
#include "src/train/config_difference.h"
#include "src/train/evaluate.h"
#include "src/train/generate.h"
#include "src/train/progress.h"
#include "src/train/run_folder.h"
#include "src/train/startup.h"
#include "src/train/step.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

volatile std::sig_atomic_t stop_requested = 0;

extern "C" void request_stop(int) { stop_requested = 1; }

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// "runs/x" -> "runs/x.1", the first number that is free.
fs::path aside(const fs::path& folder) {
  for (int i = 1;; i++) {
    const fs::path candidate = folder.string() + "." + std::to_string(i);
    if (!fs::exists(candidate)) return candidate;
  }
}

void prepare_folder(const fs::path& folder, StartMode mode) {
  if (mode == StartMode::resume || !RunFolder::occupied(folder)) return;
  if (mode == StartMode::fresh) {
    throw Error(ExitCode::usage, fmt::format("{} already holds a run", folder.string()),
                "--resume continues it; --overwrite moves it aside and starts again; --set output.dir=... goes elsewhere");
  }
  const fs::path moved = aside(folder);
  fs::rename(folder, moved);
  log_info(fmt::format("the earlier run in {} is now in {}", folder.string(), moved.string()));
}

class Trainer {
 public:
  Trainer(const config::Config& config, StartMode mode)
      : config_(config),
        generator_(config),
        device_(cpu_device(static_cast<int>(config.device.threads), config.device.isa)),
        pool_(device_.threads),
        training_(config.data.train, config.model.vocab, config.train.sequence),
        sampler_(training_.windows(), config.train.seed),
        ranks_(dist::single_rank()),
        run_(plan::plan_run(config, device_)) {
    if (!config.data.validation.empty()) {
      validation_.emplace(config.data.validation, config.model.vocab, config.train.sequence);
    }
    context_.device = device_;
    context_.pool = &pool_;
    peak_gflops_ = kernels::measure_gemm_peak(context_, 0.3);
    fmt::print("{}", startup_text(config_, run_, device_, training_, validation_ ? &*validation_ : nullptr, peak_gflops_));
    std::fflush(stdout);

    prepare_folder(config.output.dir, mode);
    arena_.emplace(run_.plan, config.device.arena == "slab" ? ArenaMode::slab : ArenaMode::discrete, device_);
    run_.bind(*arena_);
    context_.workspace = run_.workspace;
    if (mode != StartMode::resume || !resume()) run_.model->initialise(context_, config.train.seed);
    folder_.emplace(config_, mode == StartMode::resume ? RunFolder::Mode::resume : RunFolder::Mode::fresh, position_.step);
    fmt::print("run folder: {}\n", folder_->path().string());
  }

  ExitCode run() {
    Progress progress(config_.train.steps);
    int64_t done = 0;
    while (position_.step < config_.train.steps) {
      const auto start = Clock::now();
      const double multiplier = optim::multiplier(schedule(), position_.step);
      const StepResult result = train_step(context_, run_, training_, sampler_, *ranks_,
                                           {.clip = config_.train.clip, .lr_multiplier = multiplier}, position_);
      const double seconds = seconds_since(start);
      const auto metrics = step_metrics(result, multiplier, seconds);
      folder_->record_step(metrics);
      progress.step(metrics, ++done);

      const bool last = position_.step == config_.train.steps;
      if (last || due(config_.validation.every)) validate();
      if (due(config_.sampling.every) || (last && config_.sampling.every > 0)) sample();
      if (stop_requested && !last) return interrupted();
      if (last || due(config_.checkpoint.every)) checkpoint();
    }
    if (done == 0) fmt::print("nothing to do: the run has all its {} steps\n", config_.train.steps);
    fmt::print("finished: {} steps, {} tokens; run folder: {}\n", position_.step,
               position_.step * config_.train.tokens_per_step, folder_->path().string());
    return ExitCode::success;
  }

 private:
  bool due(int64_t every) const { return every > 0 && position_.step % every == 0; }

  optim::Schedule schedule() const {
    const auto& s = config_.schedule;
    return {.kind = s.kind, .steps = config_.train.steps, .warmup = s.warmup, .final = s.final, .decay_fraction = s.decay_fraction};
  }

  StepMetrics step_metrics(const StepResult& result, double multiplier, double seconds) const {
    const auto tokens = static_cast<double>(config_.train.tokens_per_step);
    const double flops = run_.training_flops * static_cast<double>(run_.micro_batches);
    return {.step = position_.step,
            .tokens = position_.step * config_.train.tokens_per_step,
            .loss = result.loss,
            .lr = config_.optimizer.lr * multiplier,
            .gradient_norm = result.gradient_norm,
            .skipped = result.skipped,
            .ms = seconds * 1e3,
            .tokens_per_second = tokens / seconds,
            .mfu = flops / seconds / (peak_gflops_ * 1e9)};
  }

  // Neither validation nor sampling may end a run.
  template <class Work>
  void harmless(const char* what, Work work) {
    try {
      work();
    } catch (const std::exception& e) {
      log_warning(fmt::format("{} at step {} failed: {}; the run goes on", what, position_.step, e.what()));
    }
  }

  void validate() {
    if (!validation_) return;
    harmless("validation", [&] {
      const Evaluation e = evaluate(context_, run_, *validation_, config_.validation.tokens);
      fmt::print("step {:>6} | validation loss {:.4f} nats/token over {} tokens | unigram entropy {:.4f} | {:.4f} below\n",
                 position_.step, e.loss, e.tokens, e.unigram_entropy, e.unigram_entropy - e.loss);
      std::fflush(stdout);
      folder_->record_validation(position_.step, e.loss, e.unigram_entropy);
    });
  }

  void sample() {
    harmless("sampling", [&] {
      const auto& s = config_.sampling;
      const std::string text =
          generator_.sample(context_, run_,
                        {.tokens = s.tokens, .temperature = s.temperature, .top_k = s.top_k,
                         .seed = config_.train.seed + static_cast<uint64_t>(position_.step)});
      fmt::print("--- sample at step {} ---\n{}\n---\n", position_.step, text);
      std::fflush(stdout);
      folder_->record_sample(position_.step, text);
    });
  }

  CheckpointState checkpoint_state() const {
    return {.step = position_.step,
            .optimizer_t = position_.optimizer_t,
            .samples = position_.samples,
            .config_json = config::to_json(config_)};
  }

  void checkpoint() {
    save_checkpoint(folder_->path(), checkpoint_state(), run_.model->parameters(), *run_.optimizers);
    prune_checkpoints(folder_->path(), config_.checkpoint.keep);
  }

  ExitCode interrupted() {
    checkpoint();
    fmt::print("stopped by a signal after step {}; a checkpoint is written: continue with --resume\n", position_.step);
    return ExitCode::interrupted;
  }

  bool resume() {
    const auto latest = find_latest_checkpoint(config_.output.dir);
    if (!latest) {
      log_warning(fmt::format("no checkpoint in {}: starting from the beginning", config_.output.dir));
      return false;
    }
    const CheckpointState state = load_checkpoint(*latest, run_.model->parameters(), *run_.optimizers);
    const auto differences = meaningful_differences(state.config_json, config::to_json(config_));
    if (!differences.empty()) {
      throw Error(ExitCode::usage,
                  fmt::format("{} was written by another config:\n  {}", latest->string(), fmt::join(differences, "\n  ")),
                  "resume with the config of the run (config.json in its folder), or start a new run with --set output.dir=...");
    }
    position_ = {.step = state.step, .optimizer_t = state.optimizer_t, .samples = state.samples};
    fmt::print("resumed from {} (step {})\n", latest->string(), state.step);
    return true;
  }

  config::Config config_;
  TextGenerator generator_;
  Device device_;
  ThreadPool pool_;
  data::Dataset training_;
  std::optional<data::Dataset> validation_;
  data::Sampler sampler_;
  std::unique_ptr<dist::Communicator> ranks_;
  plan::PlannedRun run_;
  Context context_;
  std::optional<Arena> arena_;
  std::optional<RunFolder> folder_;
  Position position_;
  double peak_gflops_ = 0;
};

}  // namespace

int train(const config::Config& config, StartMode mode) {
  Trainer trainer(config, mode);
  std::signal(SIGINT, request_stop);
  std::signal(SIGTERM, request_stop);
  return static_cast<int>(trainer.run());
}

}  // namespace kiln::train
