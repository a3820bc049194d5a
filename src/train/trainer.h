// A whole run: start-up block, steps with progress, validation, samples, checkpoints, the end.
#pragma once

#include "src/config/config.h"

namespace kiln::train {

enum class StartMode {
  fresh,      // refuses a folder that holds a run
  resume,     // continues from the newest intact checkpoint, from the start if there is none
  overwrite,  // moves the folder of an earlier run aside and starts again
};

// Returns the process's exit code: success, or interrupted after SIGINT or SIGTERM (a checkpoint is written
// first).
int train(const config::Config& config, StartMode mode);

}  // namespace kiln::train
