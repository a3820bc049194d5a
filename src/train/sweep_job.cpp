#include "src/train/sweep_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <string_view>

#include "src/config/load.h"
#include "src/core/error.h"
#include "src/core/file.h"
#include "src/train/checkpoint.h"
#include "src/train/checkpoint_folders.h"
#include "src/train/config_difference.h"
#include "src/train/copy_run.h"
#include "src/train/length.h"
#include "src/train/metrics_log.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;

// A refusal of what the spec says, which names its place there and not a --set that nobody typed.
std::string in_words_of_spec(std::string message, const SweepRun& run) {
  for (size_t i = run.overrides.size(); i-- > 0;) {  // the last of equals is the one that holds
    const std::string option = fmt::format("--set {}", run.overrides[i]);
    const size_t at = message.find(option);
    if (at == std::string::npos) continue;
    const size_t end = at + option.size();
    if (end < message.size() && std::string_view(":;,) ").find(message[end]) == std::string_view::npos)
      continue;
    message.replace(at, option.size(), fmt::format("{}: {}", run.origins[i], run.overrides[i]));
  }
  return message;
}

config::Config load_config(const SweepRun& run) {
  try {
    return config::load(run.config, run.overrides);
  } catch (const Error& error) {
    throw Error(error.code(), in_words_of_spec(error.what(), run), error.hint());
  }
}

config::Config config_of(const SweepRun& run) {
  config::Config config = load_config(run);
  if (config.data.validation.empty()) {
    throw Error(ExitCode::usage, fmt::format("{} has no data.validation", run.config),
                "a sweep ranks runs by their final validation loss");
  }
  if (config.train.steps == 0) {
    throw Error(
        ExitCode::usage, fmt::format("{} says how long it trains by train.epochs", run.config),
        "a sweep compares runs of equal steps: set train.steps (or train.tokens), and train.epochs to 0");
  }
  return config;
}

SweepJob job_of(SweepRun run, const SweepRun* earlier) {
  SweepJob job{std::move(run), {}, {}, {}};
  job.config = config_of(job.run);
  if (!earlier) return job;
  job.earlier = earlier->folder;
  const config::Config before = config_of(*earlier);
  job.obstacle = difference_at_start(before, job.config, before.train.steps);
  if (job.obstacle.empty()) job.from = before.train.steps;
  return job;
}

// As the trainer decides it: so many steps in a row, the last one included, whose loss or gradient was not finite.
bool has_diverged(const MetricsLog& log, int64_t bearable) {
  if (bearable == 0 || static_cast<int64_t>(log.steps.size()) < bearable) return false;
  return std::all_of(log.steps.end() - bearable, log.steps.end(), [](const LoggedStep& s) {
    return s.skipped && !(std::isfinite(s.gradient_norm) && std::isfinite(s.loss));
  });
}

bool has_checkpoint_of(const fs::path& run, int64_t step) {
  for (const Candidate& candidate : candidates(run)) {
    if (candidate.step != step) continue;
    try {
      if (read_manifest(candidate.path).step == step) return true;
    } catch (const Error&) {
      continue;  // damaged: the run that is started again says so
    }
  }
  return false;
}

}  // namespace

SweepJob rung_job(const SweepSpec& spec, const SweepArm& arm, const Settings& candidate, size_t rung) {
  if (rung == 0) return job_of(rung_run(spec, arm, candidate, rung), nullptr);
  const SweepRun earlier = rung_run(spec, arm, candidate, rung - 1);
  return job_of(rung_run(spec, arm, candidate, rung), &earlier);
}

SweepJob final_job(const SweepSpec& spec, const SweepArm& arm, const Settings& candidate, uint64_t seed) {
  if (spec.rungs.empty()) return job_of(final_run(spec, arm, candidate, seed), nullptr);
  const SweepRun earlier = rung_run(spec, arm, candidate, spec.rungs.size() - 1);
  return job_of(final_run(spec, arm, candidate, seed), &earlier);
}

void check_folder(const SweepJob& job) {
  const fs::path earlier = fs::path(job.run.folder) / "config.json";
  if (!is_there(earlier)) return;
  std::vector<std::string> differences;
  try {
    // A loss over other validation tokens is another number.
    differences =
        meaningful_differences(read_file(earlier), config::to_json(job.config), {"validation.tokens"});
  } catch (const Error& error) {
    throw Error(ExitCode::data, fmt::format("{}: {}", earlier.string(), error.what()),
                fmt::format("move {} away: the sweep then trains that run again", job.run.folder));
  }
  if (differences.empty()) return;
  throw Error(ExitCode::usage,
              fmt::format("{} holds a run of other settings: {}", job.run.folder, differences.front()),
              "give the sweep another \"output\", or move that folder away");
}

void check_same_validation(const SweepJob& first, const SweepJob& job) {
  const auto refuse = [&](const char* key, const std::string& here, const std::string& there) {
    throw Error(
        ExitCode::usage,
        fmt::format("{} is {} in the run \"{}\" and {} in the run \"{}\"", key, there, first.run.what, here,
                    job.run.what),
        fmt::format("losses over different validation tokens cannot be ranked: give {} one value in all "
                    "arms, rungs and final, best in the spec's \"set\"",
                    key));
  };
  const config::Config &a = first.config, &b = job.config;
  if (a.data.validation != b.data.validation) refuse("data.validation", b.data.validation, a.data.validation);
  if (a.validation.tokens != b.validation.tokens) {
    refuse("validation.tokens", fmt::format("{}", b.validation.tokens),
           fmt::format("{}", a.validation.tokens));
  }
}

std::optional<SweepResult> result_of(const SweepJob& job) {
  const fs::path path = fs::path(job.run.folder) / "metrics.jsonl";
  if (!is_there(path)) return std::nullopt;
  const MetricsLog log = read_metrics_log(path);
  SweepResult result{.loss = std::numeric_limits<double>::infinity(),
                     .ms = median_ms(log),
                     .optimizer_share = optimizer_share(log),
                     .steps = job.config.train.steps,
                     .from = copied_step(job.run.folder)};
  // A run that has validated may still have failed, at its last checkpoint.
  if (!log.validations.empty() && log.validations.back().step == job.config.train.steps &&
      has_checkpoint_of(job.run.folder, job.config.train.steps)) {
    if (std::isfinite(log.validations.back().loss)) result.loss = log.validations.back().loss;
    return result;
  }
  if (has_diverged(log, job.config.train.max_skipped)) return result;
  return std::nullopt;
}

}  // namespace kiln::train
