// `kiln sweep`: many runs, one after the other, each a child process; successive halving; one table.
#pragma once

#include <string>

#include "src/train/sweep_spec.h"
#include "src/train/sweep_table.h"

namespace kiln::train {

// A sweep that was gone through, and how it ended.
struct SweepOutcome {
  SweepTable table;
  int exit_code;  // success, or interrupted (after a signal)
};

// Runs what of the sweep is not done yet and writes OUTPUT/results.txt, .md and .json after each run. What is done is read
// from the run folders themselves: a sweep that was stopped or killed goes on when it is started again, its running run
// from the checkpoint, and a run that is done (sweep_job.h: result_of) is never trained again. Runs that
// diverge lose. A run of a later rung goes on from the one before where that is the same training (length.h), otherwise
// it trains from the beginning, and progress says why. Throws Error before the first run when a config does not load, or
// a run's folder holds a run of other settings; later when a run fails otherwise than by diverging.
SweepOutcome sweep(const SweepSpec& spec);

// The table as far as it is known; trains and writes nothing.
SweepTable sweep_so_far(const SweepSpec& spec);

// What the arms' rungs and seeds come to, in runs and tokens, without running any. Throws whatever sweep() would before
// its first run.
std::string describe_sweep(const SweepSpec& spec);

}  // namespace kiln::train
