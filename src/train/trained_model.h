// A model out of a checkpoint, to be used rather than trained.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "src/config/config.h"
#include "src/core/parallel.h"
#include "src/device/context.h"
#include "src/plan/planned_run.h"

namespace kiln::train {

// Which model, and what of its config shall be different ("device.threads=1").
struct ModelSource {
  std::filesystem::path path;  // a run's folder, for its newest intact checkpoint, or a checkpoint's
  std::vector<std::string> overrides;
};

// A checkpoint with the config it carries, before anything of it is in memory. Damaged checkpoints of a run
// are passed over with a warning; optimizer state that is missing or of another size, of no use here, gets a warning only. Throws Error(ExitCode::data) when there is
// no checkpoint that can be used, and what config::parse() throws; the config in a checkpoint extends no file.
struct FoundModel {
  std::filesystem::path checkpoint;
  int64_t step;
  config::Config config;
};
FoundModel find_model(const ModelSource& source);

// Plans for the purpose, allocates, loads the weights. Throws Error(ExitCode::data) when they do not fit the
// config, and OutOfMemory's message with what to lower.
class TrainedModel {
 public:
  TrainedModel(const FoundModel& found, plan::Purpose purpose);
  TrainedModel(const TrainedModel&) = delete;

  Context& context() { return context_; }
  plan::PlannedRun& run() { return run_; }

 private:
  Device device_;
  ThreadPool pool_;
  plan::PlannedRun run_;
  std::optional<Arena> arena_;
  Context context_;
};

}  // namespace kiln::train
