// Where a run begins: its folder, whose it is, and the checkpoint to go on from.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "src/config/config.h"
#include "src/train/checkpoint.h"
#include "src/train/run_lock.h"

namespace kiln::train {

enum class StartMode {
  fresh,      // refuses a folder that holds anything
  resume,     // goes on from the newest intact checkpoint; from the beginning if there has been none
  overwrite,  // moves the folder with what it holds aside and starts again
};

struct Start {
  RunLock lock;
  bool occupied;                                    // overwrite: there is something to be moved aside
  std::optional<std::filesystem::path> checkpoint;  // resume: where to go on
  CheckpointState state;                            // of that checkpoint
};

// Makes sure, before anything costs time or memory, that the run may begin; creates its folder and takes the
// lock, changes nothing else. `data` is the fingerprint of the training tokens. Refuses with
// Error(ExitCode::usage) a folder that is taken and a checkpoint of another config (with the keys that
// differ), and with Error(ExitCode::data) a folder that cannot be written, checkpoints of which none is
// intact, other training data than the checkpoint's, and windows of guards that no run of the config has.
Start prepare_start(const config::Config& config, StartMode mode, const std::string& data);

// Renames the run's folder ("runs/x" to "runs/x.1", the first number that is free) and makes a new one,
// locked.
void move_aside(const std::filesystem::path& folder, RunLock& lock);

}  // namespace kiln::train
