// A whole run: start-up block, steps with progress, validation, samples, checkpoints, the end.
#pragma once

#include "src/config/config.h"
#include "src/train/start.h"

namespace kiln::train {

// Returns the process's exit code: success, or interrupted after a signal (stop.h; a
// checkpoint is written first).
int train(const config::Config& config, StartMode mode);

}  // namespace kiln::train
