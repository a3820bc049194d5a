// What a run leaves behind besides checkpoints: the resolved config, versions, metrics.jsonl (one JSON object a line),
// main.log (llm.c's lines).
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "src/config/config.h"

namespace kiln::train {

struct StepMetrics {
  int64_t step;    // optimizer steps done, this one included
  int64_t tokens;  // trained on so far
  double loss;     // mean nats a token over the step's batch
  double lr;       // of the first optimizer group, schedule applied
  double gradient_norm;  // before clipping
  bool skipped;          // the gradient was not finite: nothing was updated
  double ms, tokens_per_second, mfu;
};

// Both logs are flushed line by line. A resumed run first drops every line of steps after the checkpoint, so that the
// files read as if the run had never stopped.
class RunFolder {
 public:
  enum class Mode { fresh, resume };

  // Creates the folder (fresh: it must hold no run) and writes config.json and versions.json.
  // resume: keeps log lines of steps <= resume_step.
  RunFolder(const config::Config& config, Mode mode, int64_t resume_step);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  void record_step(const StepMetrics& metrics);
  void record_validation(int64_t step, double loss, double unigram_entropy);
  void record_sample(int64_t step, const std::string& text);
  void record_metric(int64_t step, std::string_view name, double value);  // a line each: they can be many

  const std::filesystem::path& path() const { return path_; }

  // True if the folder holds a run already (any log or checkpoint).
  static bool occupied(const std::filesystem::path& path);

 private:
  void write_line(std::FILE* file, const std::string& line);
  std::filesystem::path path_;
  std::FILE* metrics_ = nullptr;
  std::FILE* main_log_ = nullptr;
  bool warned_ = false;  // a log that cannot be written is reported once and never ends the run
};

}  // namespace kiln::train
