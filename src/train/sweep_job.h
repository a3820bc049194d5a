// One run of a sweep with its config, and what is known of it.
#pragma once

#include <optional>
#include <string>

#include "src/config/config.h"
#include "src/train/sweep_spec.h"
#include "src/train/sweep_table.h"

namespace kiln::train {

struct SweepJob {
  SweepRun run;
  config::Config config;
  std::string earlier;   // folder of the candidate's run on the last rung before; empty: there is none
  std::string obstacle;  // why it cannot go on from there; empty: it can
  int64_t from = 0;      // the step at which it is to go on; 0: from the beginning
};

// Throw Error(ExitCode::usage) when a config does not load, or does not suit a sweep.
SweepJob rung_job(const SweepSpec& spec, const SweepArm& arm, const Settings& candidate, size_t rung);
SweepJob final_job(const SweepSpec& spec, const SweepArm& arm, const Settings& candidate, uint64_t seed);

// Throws Error(ExitCode::usage) when the job's folder holds a run of other settings, the number of validation tokens among
// them; Error(ExitCode::data) when its config.json is damaged.
void check_folder(const SweepJob& job);

// Throws Error(ExitCode::usage) unless both validate on the same tokens.
void check_same_validation(const SweepJob& first, const SweepJob& job);

// Of a run that has come to its end: it has validated after its last step and has a whole checkpoint of it (by its manifest
// and the sizes of its files, so that a look at a big sweep takes no time), or it has diverged; otherwise none.
std::optional<SweepResult> result_of(const SweepJob& job);

}  // namespace kiln::train
