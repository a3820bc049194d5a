// What a run leaves behind besides checkpoints: the resolved config, versions, metrics.jsonl (one JSON object
// a line), main.log (llm.c's lines).
#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "src/config/config.h"
#include "src/train/line_log.h"

namespace kiln::train {

struct StepMetrics {
  int64_t step;                                         // optimizer steps done, this one included
  int64_t tokens;                                       // trained on so far
  double loss;                                          // mean nats a token over the step's batch
  double lr;                                            // of the first optimizer group, schedule applied
  double gradient_norm;                                 // before clipping
  bool skipped;                                         // nothing was updated
  double ms, tokens_per_second, mfu;                    // ms: of the whole step
  std::string reason = {};                              // why it was skipped
  double loss_deviations = NAN, norm_deviations = NAN;  // of the guards; NaN: not known
  int64_t skipped_so_far = 0;                           // steps of the whole run
  double optimizer_ms = 0;                              // of ms, the updates of all optimizers
};

// Both logs are written line by line. A resumed run first drops every line of steps after the checkpoint, so
// that the files read as if the run had never stopped.
class RunFolder {
 public:
  enum class Mode { fresh, resume };

  // Creates the folder (fresh: it must hold no run) and writes config.json and versions.json.
  // resume: keeps log lines of steps <= resume_step, and an earlier config.json that differs (in keys that
  // may) as config_until_step_N.json. Warns of steps that metrics.jsonl should have and has not.
  RunFolder(const config::Config& config, Mode mode, int64_t resume_step);

  // Before the first step: how many steps the run has, and what its MFU is a fraction of (ceiling.h). Of a run that goes
  // on only where it has become longer.
  void record_start(int64_t run_steps, double ceiling_gflops);
  void record_step(const StepMetrics& metrics);
  void record_validation(int64_t step, double loss, double unigram_entropy);
  void record_sample(int64_t step, const std::string& text);
  void record_metric(int64_t step, std::string_view name, double value);  // a line each: they can be many

  void sync();  // both logs to the disk: before a checkpoint, so that no log is behind it

  const std::filesystem::path& path() const { return path_; }

  // Whether a resumed run has already logged these for the step it resumes from.
  bool validation_logged() const { return validation_logged_; }
  bool sample_logged() const { return sample_logged_; }

  // Whether the folder holds anything but a lock; whether that is a run (any log or
  // checkpoint).
  static bool holds_run(const std::filesystem::path& path);
  static bool occupied(const std::filesystem::path& path);
  // Whether there is nothing but what a run writes first, which was stopped before it had a log.
  static bool holds_beginning(const std::filesystem::path& path);

 private:
  void look_at_log(int64_t resume_step);

  std::filesystem::path path_;
  std::optional<LineLog> metrics_, main_log_;
  int64_t said_steps_ = 0;  // of the whole run, by the log; 0: not said
  int64_t resume_step_ = 0;
  bool validation_logged_ = false, sample_logged_ = false;
};

}  // namespace kiln::train
