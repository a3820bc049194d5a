#include "src/train/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "src/core/error.h"
#include "src/core/file.h"
#include "src/train/checkpoint_folders.h"
#include "src/train/child.h"
#include "src/train/copy_run.h"
#include "src/train/run_folder.h"
#include "src/train/run_lock.h"
#include "src/train/stop.h"
#include "src/train/sweep_job.h"
#include "src/train/sweep_progress.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;

fs::path log_of(const SweepJob& job) {
  return job.run.folder + ".log";
}

// Where the runs of a stage are to begin, in a sentence.
std::string beginning(const SweepJob& job) {
  if (job.earlier.empty()) return {};
  if (job.obstacle.empty()) return fmt::format("goes on from step {} of the rung before", job.from);
  return fmt::format("trains from the beginning again, because {}", job.obstacle);
}

class Sweep {
 public:
  enum class Mode { train, look };

  Sweep(const SweepSpec& spec, Mode mode)
      : spec_(spec), mode_(mode), table_(empty_table(spec)), progress_(spec.arms.size()) {
    // Everything is loaded once before the first run, so that no mistake shows after hours.
    for (const SweepArm& arm : spec.arms) {
      std::vector<double> stages;
      for (const Settings& candidate : arm.candidates) {
        for (size_t rung = 0; rung < spec.rungs.size(); rung++)
          check(rung_job(spec, arm, candidate, rung), rung, stages);
        for (const uint64_t seed : spec.seeds)
          check(final_job(spec, arm, candidate, seed), spec.rungs.size(), stages);
      }
      steps_.push_back(stages);
    }
  }

  // False: a signal stopped it.
  bool run() {
    std::set<const ArmResult*> incomplete;  // arms whose later rungs cannot be known yet
    for (size_t rung = 0; rung < spec_.rungs.size(); rung++) {
      for (ArmResult& arm : table_.arms) {
        if (incomplete.contains(&arm) || run_rung(arm, rung)) continue;
        if (mode_ == Mode::train) return false;
        incomplete.insert(&arm);
      }
    }
    for (ArmResult& arm : table_.arms) {
      if (!incomplete.contains(&arm) && !run_seeds(arm) && mode_ == Mode::train) return false;
    }
    return true;
  }

  const SweepTable& table() const { return table_; }

 private:
  // Also notes how many steps a run of this stage takes here.
  void check(const SweepJob& job, size_t stage, std::vector<double>& stages) {
    check_folder(job);
    if (!first_) first_ = job;
    check_same_validation(*first_, job);
    stages.resize(std::max(stages.size(), stage + 1));
    stages[stage] = static_cast<double>(job.config.train.steps - job.from);
  }

  size_t index(const ArmResult& arm) const { return static_cast<size_t>(&arm - table_.arms.data()); }

  // Whether all its runs have a result.
  bool run_rung(ArmResult& arm, size_t rung) {
    std::vector<SweepCandidate>& left = arm.rungs[rung];
    if (rung > 0) {
      for (const SweepCandidate& c : arm.rungs[rung - 1]) {
        if (c.kept) left.push_back({c.settings, {}, false});
      }
    }
    bool complete = true;
    for (SweepCandidate& candidate : left) {
      const SweepJob job = rung_job(spec_, *arm.arm, candidate.settings, rung);
      if (&candidate == &left.front()) announce(job, fmt::format("{}, rung {}", arm.arm->name, rung + 1));
      const auto result = done(arm, job);
      if (result)
        candidate.result = *result;
      else if (mode_ == Mode::train)
        return false;
      else
        complete = false;
      write_table();
    }
    if (!complete) return false;
    keep_best(left, spec_.rungs[rung].keep);
    write_table();
    return true;
  }

  bool run_seeds(ArmResult& arm) {
    const Settings* best = survivor(arm);
    if (!best) return true;
    arm.chosen = *best;
    for (const uint64_t seed : spec_.seeds) {
      const SweepJob job = final_job(spec_, *arm.arm, arm.chosen, seed);
      if (seed == spec_.seeds.front()) announce(job, fmt::format("{}, final", arm.arm->name));
      const auto result = done(arm, job);
      if (!result && mode_ == Mode::train) return false;
      if (result) arm.finals.push_back({seed, *result});
      write_table();
    }
    return true;
  }

  void announce(const SweepJob& job, const std::string& stage) {
    if (mode_ == Mode::look || job.obstacle.empty() || result_of(job)) return;
    progress_.note(fmt::format("{}: {}", stage, beginning(job)));
  }

  // What is to come after the run that begins now.
  SweepLeft left_after_this() const {
    SweepLeft left{0, std::vector<double>(table_.arms.size())};
    for (const ArmResult& arm : table_.arms) {
      const std::vector<double>& steps = steps_[index(arm)];
      const auto add = [&](int64_t runs, double each) {
        left.runs += runs;
        left.steps[index(arm)] += static_cast<double>(runs) * each;
      };
      int64_t staying = 1;  // of the stage before
      for (size_t rung = 0; rung < arm.rungs.size(); rung++) {
        const auto is_open = [](const SweepCandidate& c) { return std::isnan(c.result.loss); };
        const auto here = static_cast<int64_t>(arm.rungs[rung].size());
        const int64_t runs = here > 0 ? here : staying;
        add(here > 0 ? std::count_if(arm.rungs[rung].begin(), arm.rungs[rung].end(), is_open) : runs,
            steps[rung]);
        staying = std::min(runs, spec_.rungs[rung].keep);
      }
      if (!spec_.seeds.empty()) {
        add(static_cast<int64_t>(spec_.seeds.size()) - static_cast<int64_t>(arm.finals.size()), steps.back());
      }
    }
    return left;
  }

  // The result of a run, trained now if need be; nothing: a signal stopped it, or training is not wanted.
  std::optional<SweepResult> done(const ArmResult& arm, const SweepJob& job) {
    if (mode_ == Mode::train && !wait_for_orphan(job)) return std::nullopt;
    if (const auto result = result_of(job)) {
      runs_++;
      if (result->ms > 0) progress_.speed(index(arm), result->ms * 1e-3);
      return result;
    }
    if (mode_ == Mode::look || stop_requested()) return std::nullopt;
    return trained(arm, job);
  }

  std::optional<SweepResult> trained(const ArmResult& arm, const SweepJob& job) {
    const fs::path folder = job.run.folder;
    make_folder(folder.parent_path());
    if (job.from > 0 && !is_there(folder)) {
      const int64_t copied = copy_run(job.earlier, job.config);
      const std::string words = copied > 0 ? fmt::format("goes on from step {} of the rung before", copied)
                                           : fmt::format(
                                                 "trains from the beginning again, because {} has no "
                                                 "checkpoint that can be used",
                                                 job.earlier);
      progress_.note(fmt::format("{}: {}", job.run.what, words));
    }
    const int64_t from = copied_step(folder);
    SweepLeft left = left_after_this();
    left.runs--;
    left.steps[index(arm)] -= static_cast<double>(job.config.train.steps - job.from);
    progress_.begin(index(arm), ++runs_, job.run.what, from, job.config.train.steps, log_of(job), left);
    std::vector<std::string> arguments{"train", job.run.config};
    if (RunFolder::occupied(folder)) arguments.push_back("--resume");
    for (const std::string& override : job.run.overrides) {
      arguments.push_back("--set");
      arguments.push_back(override);
    }
    const int code = run_kiln(arguments, log_of(job), [&] { progress_.tick(); });
    const auto result = result_of(job);
    if (!result && stop_requested()) {
      progress_.end("stopped");
      return std::nullopt;
    }
    if (!result) {
      progress_.end("failed");
      throw Error(
          code > 0 && code <= 5 ? static_cast<ExitCode>(code) : ExitCode::failure,
          fmt::format(
              "the run {} ended with code {} and without a validation and a checkpoint of its last step",
              job.run.folder, code),
          fmt::format("its words are at the end of {}; once mended, the same command goes on",
                      log_of(job).string()));
    }
    progress_.end(fmt::format("validation loss {}", loss_text(result->loss)));
    return result;
  }

  // A run whose sweep was killed stops by itself, after writing a checkpoint. False: a signal came.
  bool wait_for_orphan(const SweepJob& job) {
    bool told = false;
    while (const auto process = process_training_in(job.run.folder)) {
      if (stop_requested()) return false;
      if (!told)
        progress_.note(fmt::format("process {} trains in {}: waiting for its end", *process, job.run.folder));
      told = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return true;
  }

  void write_table() const {
    if (mode_ == Mode::look) return;
    write_file_atomically(fs::path(spec_.output) / "results.txt", text(table_));
    write_file_atomically(fs::path(spec_.output) / "results.md", markdown(table_));
    write_file_atomically(fs::path(spec_.output) / "results.json", to_json(table_));
  }

  const SweepSpec& spec_;
  const Mode mode_;
  SweepTable table_;
  SweepProgress progress_;
  std::optional<SweepJob> first_;
  std::vector<std::vector<double>> steps_;  // [arm][rung, then final]: that one run trains
  int64_t runs_ = 0;                        // that have begun or were found
};

}  // namespace

SweepOutcome sweep(const SweepSpec& spec) {
  ignore_closed_output();
  Sweep sweep(spec, Sweep::Mode::train);
  make_folder(spec.output);
  const RunLock lock(spec.output);
  install_stop_signals();
  const bool finished = sweep.run();
  return {sweep.table(), static_cast<int>(finished ? ExitCode::success : ExitCode::interrupted)};
}

SweepTable sweep_so_far(const SweepSpec& spec) {
  Sweep sweep(spec, Sweep::Mode::look);
  sweep.run();
  return sweep.table();
}

std::string describe_sweep(const SweepSpec& spec) {
  const Sweep checked(spec, Sweep::Mode::look);
  std::string result;
  int64_t runs = 0;
  double tokens = 0;
  const auto count = [&](const SweepJob& job, int64_t times) {
    runs += times;
    tokens += static_cast<double>(times) * static_cast<double>(job.config.train.steps - job.from) *
              static_cast<double>(job.config.train.tokens_per_step);
    const std::string words = beginning(job);
    result += words.empty() ? "\n" : fmt::format("; each {}\n", words);
  };
  for (const SweepArm& arm : spec.arms) {
    auto left = static_cast<int64_t>(arm.candidates.size());
    for (size_t rung = 0; rung < spec.rungs.size(); rung++) {
      const SweepJob first = rung_job(spec, arm, arm.candidates.front(), rung);
      result += fmt::format("{}, rung {}: {} runs of {} steps, {} stay", arm.name, rung + 1, left,
                            first.config.train.steps, std::min(left, spec.rungs[rung].keep));
      count(first, left);
      left = std::min(left, spec.rungs[rung].keep);
    }
    if (!spec.seeds.empty()) {
      const SweepJob first = final_job(spec, arm, arm.candidates.front(), spec.seeds.front());
      const auto seeds = static_cast<int64_t>(spec.seeds.size());
      result += fmt::format("{}, final: {} seeds of {} steps", arm.name, seeds, first.config.train.steps);
      count(first, seeds);
    }
  }
  return result + fmt::format("{} runs, {:.4g} tokens in all, to {}\n", runs, tokens, spec.output);
}

}  // namespace kiln::train
