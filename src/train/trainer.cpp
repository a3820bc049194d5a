#include "src/train/trainer.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <numeric>
#include <optional>
#include <string>

#include "src/config/load.h"
#include "src/config/relations.h"
#include "src/core/error.h"
#include "src/core/log.h"
#include "src/plan/advice.h"
#include "src/plan/device.h"
#include "src/train/ceiling.h"
#include "src/train/checkpoint.h"
#include "src/train/evaluate.h"
#include "src/train/generate.h"
#include "src/train/length.h"
#include "src/train/progress.h"
#include "src/train/run_folder.h"
#include "src/train/startup.h"
#include "src/train/step.h"
#include "src/train/stop.h"

namespace kiln::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// What optimizers report about one step, into the run folder.
class StepSink : public MetricSink {
 public:
  StepSink(RunFolder& folder, int64_t step) : folder_(folder), step_(step) {}
  void record(std::string_view name, double value) override { folder_.record_metric(step_, name, value); }

 private:
  RunFolder& folder_;
  int64_t step_;
};

class Trainer {
 public:
  Trainer(const config::Config& config, StartMode mode)
      : config_(config),
        generator_(config),
        device_(plan::device_of(config.device)),
        pool_(device_.threads),
        training_(config.data.train, config.model.vocab, config.train.sequence),
        sampler_(training_.windows(), config.train.seed),
        ranks_(dist::single_rank()),
        run_(plan::plan_run(config, device_)),
        guards_{.loss = OutlierWindow(config.train.skip_loss_z, config.train.skip_window),
                .gradient_norm = OutlierWindow(config.train.skip_norm_z, config.train.skip_window)} {
    if (!config.data.validation.empty()) {
      validation_.emplace(config.data.validation, config.model.vocab, config.train.sequence);
    }
    steps_ = config::steps_of(config, training_.windows());
    data_ = data::fingerprint(training_);
    start_ = prepare_start(config, mode, data_);

    const std::string warning = thread_warning(config.device.threads, cpu_device().threads);
    if (!warning.empty()) log_warning(warning);
    const std::string unused = vocabulary_warning(config, generator_.vocab());
    if (!unused.empty()) log_warning(unused);
    plan::with_advice(config_, run_, device_,
                      [&] { require_memory(run_.plan.layout(), device_); });  // before it takes time
    context_.device = device_;
    context_.pool = &pool_;
    ceiling_.emplace(measure_ceiling(context_), start_->state.ceiling_gflops);
    fmt::print("{}", startup_text(config_, run_, device_, training_, validation_ ? &*validation_ : nullptr,
                                  steps_, *ceiling_));
    std::fflush(stdout);
    plan::with_advice(config_, run_, device_, [&] {
      arena_.emplace(run_.plan, config.device.arena == "slab" ? ArenaMode::slab : ArenaMode::discrete,
                     device_);
    });
    run_.bind(*arena_);
    context_.workspace = run_.workspace;

    if (mode == StartMode::overwrite && start_->occupied) move_aside(config.output.dir, start_->lock);
    if (start_->checkpoint) {
      resume();
    } else {
      run_.model->initialise(context_, config.train.seed);
    }
    folder_.emplace(config_, mode == StartMode::resume ? RunFolder::Mode::resume : RunFolder::Mode::fresh,
                    position_.step);
    folder_->record_start(steps_, ceiling_->gflops());
    fmt::print("run folder: {}\n", folder_->path().string());
  }

  ExitCode run() {
    Progress progress(steps_);
    const optim::Schedule schedule = schedule_of(config_, steps_);
    int64_t done = 0;
    look_after_resuming();
    while (position_.step < steps_) {
      const auto start = Clock::now();
      const double multiplier = optim::multiplier(schedule, position_.step);
      StepSink sink(*folder_, position_.step + 1);
      const int64_t reports = config_.metrics.every;
      const bool reports_now = reports > 0 && (position_.step + 1) % reports == 0;
      StepTimes times;
      const StepResult result = train_step(context_, run_, training_, sampler_, *ranks_,
                                           {.clip = config_.train.clip,
                                            .lr_multiplier = multiplier,
                                            .metrics = reports_now ? &sink : nullptr,
                                            .times = &times,
                                            .guards = &guards_,
                                            .first_batch = config_.train.overfit_one_batch == "on"},
                                           position_);
      if (result.abandoned) return interrupted();
      const double seconds = seconds_since(start);
      const auto metrics = step_metrics(result, times, multiplier, seconds);
      folder_->record_step(metrics);
      progress.step(metrics, ++done);
      const bool not_finite =
          result.reason == Skip::gradient_not_finite || result.reason == Skip::loss_not_finite;
      not_finite_in_a_row_ = not_finite ? not_finite_in_a_row_ + 1 : 0;
      if (config_.train.max_skipped > 0 && not_finite_in_a_row_ >= config_.train.max_skipped) diverged();

      if (validation_due()) validate();
      if (sample_due()) sample();
      const bool last = position_.step == steps_;
      if (stop_requested() && !last) return interrupted();
      if (last)
        checkpoint();
      else if (due(config_.checkpoint.every) && not_finite_in_a_row_ == 0)
        harmless("the checkpoint", [&] { checkpoint(); });
    }
    if (done == 0) fmt::print("nothing to do: the run has all its {} steps\n", steps_);
    fmt::print("finished: {} steps{}, {} tokens; run folder: {}\n", position_.step,
               skipped() > 0 ? fmt::format(" ({} skipped)", skipped()) : "",
               position_.step * config_.train.tokens_per_step, folder_->path().string());
    return ExitCode::success;
  }

 private:
  bool due(int64_t every) const { return every > 0 && position_.step % every == 0; }
  bool at_end() const { return position_.step == steps_; }
  int64_t skipped() const { return position_.step - position_.optimizer_t; }  // steps of the whole run
  bool validation_due() const { return at_end() || due(config_.validation.every); }
  bool sample_due() const { return config_.sampling.every > 0 && (at_end() || due(config_.sampling.every)); }

  // What a signal cut short at the step of the checkpoint is made up for.
  void look_after_resuming() {
    if (position_.step == 0) return;
    if (validation_due() && !folder_->validation_logged()) validate();
    if (sample_due() && !folder_->sample_logged()) sample();
  }

  StepMetrics step_metrics(const StepResult& result, const StepTimes& times, double multiplier,
                           double seconds) {
    const auto tokens = static_cast<double>(config_.train.tokens_per_step);
    const double flops = run_.training_flops * static_cast<double>(run_.micro_batches);
    return {.step = position_.step,
            .tokens = position_.step * config_.train.tokens_per_step,
            .loss = without_sign(result.loss),
            .lr = config_.optimizer.lr * multiplier,
            .gradient_norm = without_sign(result.gradient_norm),
            .skipped = result.skipped,
            .ms = seconds * 1e3,
            .tokens_per_second = tokens / seconds,
            .mfu = ceiling_->share(flops, seconds),
            .reason = reason_of(result),
            .loss_deviations = result.loss_deviations,
            .norm_deviations = result.norm_deviations,
            .skipped_so_far = skipped(),
            .optimizer_ms = std::accumulate(times.optimizers.begin(), times.optimizers.end(), 0.0) * 1e3};
  }

  // The sign of a NaN means nothing: "nan", never "-nan".
  static double without_sign(double x) {
    return std::isnan(x) ? std::numeric_limits<double>::quiet_NaN() : x;
  }

  static std::string reason_of(const StepResult& result) {
    const auto outlier = [](const char* what, double deviations) {
      return fmt::format("{} {:.1f} deviations above its mean", what, deviations);
    };
    switch (result.reason) {
      case Skip::none:
        return "";
      case Skip::gradient_not_finite:
        return "gradient not finite";
      case Skip::loss_not_finite:
        return "loss not finite";
      case Skip::loss_outlier:
        return outlier("loss", result.loss_deviations);
      case Skip::gradient_norm_outlier:
        return outlier("gradient norm", result.norm_deviations);
    }
    return "";
  }

  // Neither validation nor sampling may end a run, nor a checkpoint before the last: the ones before it are
  // intact.
  template <class Work>
  void harmless(const char* what, Work work) {
    try {
      work();
    } catch (const std::exception& e) {
      log_warning(fmt::format("{} at step {} failed: {}; the run goes on", what, position_.step, e.what()));
    }
  }

  void validate() {
    if (!validation_ || stop_requested()) return;
    harmless("validation", [&] {
      const auto evaluation = evaluate(context_, run_, *validation_,
                                       tokens_of_whole_windows(*validation_, config_.validation.tokens));
      if (!evaluation) return;
      Evaluation e = *evaluation;
      e.loss = without_sign(e.loss);
      const double below = e.unigram_entropy - e.loss;
      fmt::print(
          "step {:>6} | validation loss {:.4f} nats/token over {} tokens | {:.4f} {} the unigram entropy, "
          "{:.4f}\n",
          position_.step, e.loss, e.tokens, std::abs(below), below < 0 ? "above" : "below",
          e.unigram_entropy);
      std::fflush(stdout);
      folder_->record_validation(position_.step, e.loss, e.unigram_entropy);
    });
  }

  void sample() {
    if (stop_requested()) return;
    harmless("sampling", [&] {
      const std::string text =
          generator_.sample(context_, run_, config_.train.seed + static_cast<uint64_t>(position_.step));
      if (stop_requested()) return;  // it may be cut short; the resumed run draws it again
      fmt::print("--- sample at step {} ---\n{}\n---\n", position_.step, text);
      std::fflush(stdout);
      folder_->record_sample(position_.step, text);
    });
  }

  CheckpointState checkpoint_state() const {
    return {.step = position_.step,
            .optimizer_t = position_.optimizer_t,
            .samples = position_.samples,
            .data = data_,
            .config_json = config::to_json(config_),
            .losses = guards_.loss.values(),
            .gradient_norms = guards_.gradient_norm.values(),
            .run_steps = steps_,
            .ceiling_gflops = ceiling_->gflops()};
  }

  void checkpoint() {
    folder_->sync();
    save_checkpoint(folder_->path(), checkpoint_state(), run_.model->parameters(), *run_.optimizers);
    // While steps are not finite the checkpoints from before may be the last good ones.
    if (not_finite_in_a_row_ == 0) {
      prune_checkpoints(folder_->path(), config_.checkpoint.keep, config_.checkpoint.keep_every);
    }
  }

  [[noreturn]] void diverged() {
    throw Error(
        ExitCode::failure,
        fmt::format("loss or gradient has not been finite for {} steps: the run has diverged at step {}",
                    not_finite_in_a_row_, position_.step - not_finite_in_a_row_ + 1),
        "lower optimizer.lr, lengthen schedule.warmup or clip (train.clip); what checkpoints there are "
        "(checkpoint.every) are from before; train.max_skipped says how many such steps are borne");
  }

  ExitCode interrupted() {
    checkpoint();
    fmt::print("stopped by a signal after step {}; a checkpoint is written: continue with --resume\n",
               position_.step);
    return ExitCode::interrupted;
  }

  void resume() {
    const CheckpointState state =
        load_checkpoint(*start_->checkpoint, run_.model->parameters(), *run_.optimizers);
    position_ = {.step = state.step, .optimizer_t = state.optimizer_t, .samples = state.samples};
    guards_.loss.restore(state.losses);
    guards_.gradient_norm.restore(state.gradient_norms);
    fmt::print("resumed from {} (step {})\n", start_->checkpoint->string(), state.step);
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
  std::string data_;  // fingerprint of the training tokens
  std::optional<Start> start_;
  std::optional<RunFolder> folder_;
  Position position_;
  int64_t steps_ = 0;  // of the whole run
  Guards guards_;
  int64_t not_finite_in_a_row_ = 0;
  std::optional<Ceiling> ceiling_;
};

}  // namespace

int train(const config::Config& config, StartMode mode) {
  ignore_closed_output();
  Trainer trainer(config, mode);
  install_stop_signals();
  return static_cast<int>(trainer.run());
}

}  // namespace kiln::train
