// `kiln sweep`: many runs, one after the other, each a child process; successive halving; one table.
#pragma once

#include <filesystem>

#include "src/train/sweep_spec.h"

namespace kiln::train {

// Runs what of the sweep is not done yet, prints a line a run, and writes OUTPUT/results.md and OUTPUT/results.json
// after each. What is done is read from the run folders themselves: a sweep that was stopped goes on when it is started
// again, its running run from the checkpoint. Runs that diverge lose. Returns success or interrupted (after a signal).
// Throws Error before the first run when a config does not load, or a run's folder holds a run of other settings.
int sweep(const SweepSpec& spec);

// The runs, without running any: what each arm's rungs and seeds come to, in runs and tokens.
void print_sweep(const SweepSpec& spec);

}  // namespace kiln::train
