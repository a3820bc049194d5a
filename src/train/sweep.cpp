#include "src/train/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <vector>

#include "src/config/load.h"
#include "src/core/error.h"
#include "src/core/file.h"
#include "src/train/child.h"
#include "src/train/config_difference.h"
#include "src/train/metrics_log.h"
#include "src/train/stop.h"
#include "src/train/sweep_table.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr double kDiverged = std::numeric_limits<double>::infinity();

fs::path log_of(const SweepRun& run) { return run.folder + ".log"; }
fs::path mark_of(const SweepRun& run) { return run.folder + ".diverged"; }

config::Config config_of(const SweepRun& run) {
  config::Config config = config::load(run.config, run.overrides);
  if (config.data.validation.empty()) {
    throw Error(ExitCode::usage, fmt::format("{} has no data.validation", run.config),
                "a sweep ranks runs by their final validation loss");
  }
  if (config.train.steps == 0) {
    throw Error(ExitCode::usage, fmt::format("{} says how long it trains by train.epochs", run.config),
                "a sweep compares runs of equal steps: set train.steps (or train.tokens), and train.epochs to 0");
  }
  return config;
}

// What an earlier call left in the folder of this run must be of the same settings.
void check_folder(const SweepRun& run, const config::Config& config) {
  const fs::path earlier = fs::path(run.folder) / "config.json";
  if (!fs::exists(earlier)) return;
  const auto differences = meaningful_differences(read_file(earlier), config::to_json(config));
  if (differences.empty()) return;
  throw Error(ExitCode::usage, fmt::format("{} holds a run of other settings: {}", run.folder, differences.front()),
              "give the sweep another \"output\", or move that folder away");
}

std::optional<SweepResult> result_of(const SweepRun& run, const config::Config& config) {
  SweepResult result;
  if (fs::exists(mark_of(run))) {
    result.loss = kDiverged;
    return result;
  }
  const fs::path path = fs::path(run.folder) / "metrics.jsonl";
  if (!fs::exists(path)) return std::nullopt;
  const MetricsLog log = read_metrics_log(path);
  if (log.validations.empty() || log.validations.back().step != config.train.steps) return std::nullopt;
  result.loss = log.validations.back().loss;
  if (!std::isfinite(result.loss)) result.loss = kDiverged;
  result.ms = median_ms(log);
  result.optimizer_share = optimizer_share(log);
  return result;
}

class Sweep {
 public:
  explicit Sweep(const SweepSpec& spec) : spec_(spec), table_(empty_table(spec)) {
    // Everything is loaded once before the first run, so that no mistake shows after hours.
    for (const SweepArm& arm : spec.arms) {
      for (const Settings& candidate : arm.candidates) {
        for (size_t rung = 0; rung < spec.rungs.size(); rung++) check(rung_run(spec, arm, candidate, rung));
        for (const uint64_t seed : spec.seeds) check(final_run(spec, arm, candidate, seed));
      }
    }
  }

  int run() {
    fs::create_directories(spec_.output);
    for (size_t rung = 0; rung < spec_.rungs.size(); rung++) {
      for (ArmResult& arm : table_.arms) {
        if (!run_rung(arm, rung)) return stopped();
      }
    }
    for (ArmResult& arm : table_.arms) {
      if (!run_seeds(arm)) return stopped();
    }
    fmt::print("{}\ntable: {}/results.md\n", markdown(table_), spec_.output);
    return static_cast<int>(ExitCode::success);
  }

 private:
  void check(const SweepRun& run) const { check_folder(run, config_of(run)); }

  bool run_rung(ArmResult& arm, size_t rung) {
    std::vector<Candidate>& left = arm.rungs[rung];
    if (rung > 0) {
      for (const Candidate& c : arm.rungs[rung - 1]) {
        if (c.kept) left.push_back({c.settings, {}, false});
      }
    }
    for (Candidate& candidate : left) {
      const auto result = done(rung_run(spec_, *arm.arm, candidate.settings, rung));
      if (!result) return false;
      candidate.result = *result;
      write_table();
    }
    keep_best(left, spec_.rungs[rung].keep);
    write_table();
    return true;
  }

  bool run_seeds(ArmResult& arm) {
    const Settings* best = survivor(arm);
    if (spec_.seeds.empty() || !best) return true;
    arm.chosen = *best;
    for (const uint64_t seed : spec_.seeds) {
      const auto result = done(final_run(spec_, *arm.arm, arm.chosen, seed));
      if (!result) return false;
      arm.finals.push_back({seed, *result});
      write_table();
    }
    return true;
  }

  // The result of a run, trained now if need be; nothing: a signal stopped it.
  std::optional<SweepResult> done(const SweepRun& run) {
    const config::Config config = config_of(run);
    if (const auto result = result_of(run, config)) return result;
    if (stop_requested()) return std::nullopt;
    fs::create_directories(fs::path(run.folder).parent_path());
    fmt::print("{} ... ", run.folder);
    std::fflush(stdout);
    const auto start = Clock::now();
    std::vector<std::string> arguments{"train", run.config, "--resume"};
    for (const std::string& override : run.overrides) {
      arguments.push_back("--set");
      arguments.push_back(override);
    }
    const int code = run_kiln(arguments, log_of(run));
    const double minutes = std::chrono::duration<double>(Clock::now() - start).count() / 60;
    if (stop_requested() && code != 0) {
      fmt::print("stopped\n");
      return std::nullopt;
    }
    if (code == static_cast<int>(ExitCode::failure)) write_file_atomically(mark_of(run), "see the log beside this file\n");
    const auto result = result_of(run, config);
    if (!result) {
      fmt::print("failed\n");
      throw Error(code > 0 && code <= 5 ? static_cast<ExitCode>(code) : ExitCode::failure,
                  fmt::format("the run {} ended with code {} and without a final validation loss", run.folder, code),
                  fmt::format("its words are at the end of {}; once mended, the same command goes on", log_of(run).string()));
    }
    fmt::print("{} in {:.1f} min\n", loss_text(result->loss), minutes);
    std::fflush(stdout);
    return result;
  }

  int stopped() const {
    fmt::print("stopped by a signal; the same command goes on\n");
    return static_cast<int>(ExitCode::interrupted);
  }

  void write_table() const {
    write_file_atomically(fs::path(spec_.output) / "results.md", markdown(table_));
    write_file_atomically(fs::path(spec_.output) / "results.json", to_json(table_));
  }

  const SweepSpec& spec_;
  SweepTable table_;
};

}  // namespace

int sweep(const SweepSpec& spec) {
  ignore_closed_output();
  Sweep sweep(spec);
  install_stop_signals();
  return sweep.run();
}

void print_sweep(const SweepSpec& spec) {
  int64_t runs = 0;
  double tokens = 0;
  const auto count = [&](const SweepRun& run, int64_t times) {
    const config::Config config = config_of(run);
    runs += times;
    tokens += static_cast<double>(times) * static_cast<double>(config.train.steps) *
              static_cast<double>(config.train.tokens_per_step);
  };
  for (const SweepArm& arm : spec.arms) {
    auto left = static_cast<int64_t>(arm.candidates.size());
    for (size_t rung = 0; rung < spec.rungs.size(); rung++) {
      const SweepRun first = rung_run(spec, arm, arm.candidates.front(), rung);
      fmt::print("{}, rung {}: {} runs of {} steps, {} stay\n", arm.name, rung + 1, left, config_of(first).train.steps,
                 std::min(left, spec.rungs[rung].keep));
      count(first, left);
      left = std::min(left, spec.rungs[rung].keep);
    }
    if (!spec.seeds.empty()) {
      const SweepRun first = final_run(spec, arm, arm.candidates.front(), spec.seeds.front());
      const auto seeds = static_cast<int64_t>(spec.seeds.size());
      fmt::print("{}, final: {} seeds of {} steps\n", arm.name, seeds, config_of(first).train.steps);
      count(first, seeds);
    }
  }
  fmt::print("{} runs, {:.4g} tokens in all, to {}\n", runs, tokens, spec.output);
}

}  // namespace kiln::train
