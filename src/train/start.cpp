#include "src/train/start.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <vector>

#include "src/config/load.h"
#include "src/core/error.h"
#include "src/core/log.h"
#include "src/train/checkpoint_folders.h"
#include "src/train/config_difference.h"
#include "src/train/length.h"
#include "src/train/run_folder.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const char* what, const fs::path& folder, const std::error_code& problem) {
  throw Error(ExitCode::data,
              fmt::format("cannot {} the run folder {}: {}", what, folder.string(), problem.message()),
              "choose another one with --set output.dir=...");
}

void make_run_folder(const fs::path& folder) {
  std::error_code problem;
  fs::create_directories(folder, problem);
  if (problem) fail("create", folder, problem);
}

// A run may be made longer where its steps so far would have been the same.
std::string obstacle_to_go_on(const config::Config& config, const Start& start) {
  try {
    const fs::path name = *start.checkpoint / "config";
    return difference_at_start(config::parse(start.state.config_json, name, {}, config::no_files()), config,
                               start.state.step);
  } catch (const Error& e) {
    return fmt::format("its config cannot be read: {}", e.what());
  }
}

void check_config(const config::Config& config, const Start& start) {
  const auto differences = meaningful_differences(start.state.config_json, config::to_json(config));
  if (differences.empty()) return;
  const std::string obstacle = obstacle_to_go_on(config, start);
  if (obstacle.empty()) {
    log_info(fmt::format("the run goes on to step {}: up to step {} it is the same as the {} one was",
                         config.train.steps, start.state.step,
                         config.train.steps < start.state.run_steps ? "longer" : "shorter"));
    return;
  }
  throw Error(ExitCode::usage,
              fmt::format("{} was written by another config:\n  {}\nand is no beginning of this run: {}",
                          start.checkpoint->string(), fmt::join(differences, "\n  "), obstacle),
              "resume with the config of the run (config.json in its folder), or start a new run with --set "
              "output.dir=...");
}

void check_data(const config::Config& config, const Start& start, const std::string& data) {
  if (start.state.data == data) return;
  throw Error(ExitCode::data,
              fmt::format("{} was trained on other data: {} then, {} in {} now", start.checkpoint->string(),
                          start.state.data, data, config.data.train),
              "put the old shards back (data.train), or start a new run with --set output.dir=...");
}

// The folders beside `folder` that do hold a run, since a name may be mistyped.
std::string others_beside(const fs::path& folder) {
  constexpr size_t kMost = 5;
  std::vector<std::string> names;
  std::error_code problem;
  const fs::path normal = folder.lexically_normal();
  const fs::path parent = (normal.has_filename() ? normal : normal.parent_path()).parent_path();
  for (fs::directory_iterator entry(parent.empty() ? "." : parent, problem), end; !problem && entry != end;
       entry.increment(problem)) {
    std::error_code none;
    if (fs::is_directory(entry->path() / "checkpoints", none))
      names.push_back(entry->path().filename().string());
  }
  if (names.empty()) return {};
  std::sort(names.begin(), names.end());
  const size_t shown = std::min(names.size(), kMost);
  return fmt::format(" (beside it, runs are in {}{})",
                     fmt::join(names.begin(), names.begin() + static_cast<long>(shown), ", "),
                     shown < names.size() ? ", ..." : "");
}

// What the config lets a window hold; more was never written.
void check_guards(const config::Config& config, const Start& start) {
  const auto check = [&](const char* what, const std::vector<double>& values, double z) {
    const int64_t most = z > 0 ? config.train.skip_window : 0;
    if (static_cast<int64_t>(values.size()) <= most) return;
    throw Error(
        ExitCode::data,
        fmt::format(
            "{} is damaged: it holds {} {} of past steps, a run with this train.skip_window at most {}",
            start.checkpoint->string(), values.size(), what, most),
        kDamagedHint);
  };
  check("losses", start.state.losses, config.train.skip_loss_z);
  check("gradient norms", start.state.gradient_norms, config.train.skip_norm_z);
}

void find_checkpoint(const config::Config& config, const std::string& data, Start& start) {
  const fs::path folder = config.output.dir;
  start.checkpoint = find_latest_checkpoint(folder);
  if (!start.checkpoint && has_checkpoints(folder)) {
    throw Error(ExitCode::data, fmt::format("none of the checkpoints in {} can be used", folder.string()),
                "the warnings above say why; --overwrite moves the run aside and starts again");
  }
  if (!start.checkpoint && start.occupied && !RunFolder::holds_run(folder) &&
      !RunFolder::holds_beginning(folder)) {
    throw Error(
        ExitCode::usage,
        fmt::format("{} is not empty, and what is there is no run{}", folder.string(), others_beside(folder)),
        "--set output.dir=... names the run to go on with; --overwrite moves the folder aside and starts");
  }
  if (!start.checkpoint) {
    log_warning(fmt::format("no checkpoint in {}: starting from the beginning{}", folder.string(),
                            others_beside(folder)));
    return;
  }
  start.state = read_manifest(*start.checkpoint);
  check_config(config, start);
  check_data(config, start, data);
  check_guards(config, start);
}

// A kill may have come between the last checkpoint and the removal of an old one, after which nothing else tidies up.
void remove_leftovers(const fs::path& folder) {
  try {
    remove_temporaries(folder);
  } catch (const Error& error) {
    log_warning(error.what());  // they are in nobody's way
  }
}

}  // namespace

Start prepare_start(const config::Config& config, StartMode mode, const std::string& data) {
  const fs::path folder = config.output.dir;
  make_run_folder(folder);
  Start start{
      .lock = RunLock(folder), .occupied = RunFolder::occupied(folder), .checkpoint = {}, .state = {}};
  if (mode == StartMode::resume) {
    find_checkpoint(config, data, start);
    remove_leftovers(folder);
  }
  if (mode == StartMode::fresh && start.occupied) {
    const bool holds_run = RunFolder::holds_run(folder);
    throw Error(
        ExitCode::usage,
        fmt::format("{} {}", folder.string(),
                    holds_run ? "already holds a run" : "is not empty, and what is there is no run"),
        fmt::format("{}--overwrite moves the folder aside and starts again; --set output.dir=... goes "
                    "elsewhere",
                    holds_run ? "--resume continues a run; " : ""));
  }
  return start;
}

void move_aside(const fs::path& folder, RunLock& lock) {
  fs::path moved;
  for (int i = 1; moved.empty() || fs::exists(moved); i++) moved = fmt::format("{}.{}", folder.string(), i);
  std::error_code problem;
  fs::rename(folder, moved, problem);
  if (problem) fail("move aside", folder, problem);
  log_info(fmt::format("what was in {} is now in {}", folder.string(), moved.string()));
  make_run_folder(folder);
  lock = RunLock(folder);
}

}  // namespace kiln::train
