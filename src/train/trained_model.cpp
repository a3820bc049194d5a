#include "src/train/trained_model.h"

#include <fmt/format.h>

#include "src/config/load.h"
#include "src/core/error.h"
#include "src/plan/advice.h"
#include "src/plan/device.h"
#include "src/train/checkpoint.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPathHint =
    "give a run's folder (output.dir of its config), or one of its checkpoints: "
    "RUN/checkpoints/step_00000123";

fs::path find_checkpoint(const fs::path& path) {
  if (is_checkpoint(path)) return path;
  if (const auto latest = find_latest_checkpoint(path, log_warning, CheckpointPart::weights)) return *latest;
  if (has_checkpoints(path)) {
    throw Error(ExitCode::data, fmt::format("none of the checkpoints in {} can be used", path.string()),
                "the warnings above say why");
  }
  throw Error(ExitCode::data, fmt::format("there is no checkpoint in {}", path.string()), kPathHint);
}

}  // namespace

FoundModel find_model(const ModelSource& source) {
  const fs::path checkpoint = find_checkpoint(source.path);
  const CheckpointState state = read_manifest(checkpoint, CheckpointPart::weights);
  const CheckpointFile optimizer = read_manifest_file(checkpoint).optimizer;
  if (const std::string problem = file_problem(checkpoint, optimizer, /*content=*/false); !problem.empty()) {
    log_warning(
        fmt::format("{}; only the weights are needed here, but no training can go on from there", problem));
  }
  return {.checkpoint = checkpoint,
          .step = state.step,
          .config =
              config::parse(state.config_json, checkpoint / "config", source.overrides, config::no_files())};
}

TrainedModel::TrainedModel(const FoundModel& found, plan::Purpose purpose)
    : device_(plan::device_of(found.config.device)),
      pool_(device_.threads),
      run_(plan::plan_run(found.config, device_, purpose)) {
  plan::with_advice(found.config, run_, device_, [&] {
    require_memory(run_.plan.layout(), device_);
    arena_.emplace(run_.plan, found.config.device.arena == "slab" ? ArenaMode::slab : ArenaMode::discrete,
                   device_);
  });
  run_.bind(*arena_);
  context_.device = device_;
  context_.pool = &pool_;
  context_.workspace = run_.workspace;
  load_weights(found.checkpoint, run_.model->parameters());
}

}  // namespace kiln::train
