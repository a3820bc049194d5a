// A run folder that begins as a copy of another run: how a longer run goes on from a shorter one that stays as it is.
#pragma once

#include <cstdint>
#include <filesystem>

#include "src/config/config.h"

namespace kiln::train {

// Makes the folder config.output.dir, which must not be there, of the newest intact checkpoint and the logs of the run in
// `from`; `kiln train --resume` with `config` then goes on. Checkpoint files, which nobody changes once they are written,
// are hard links where the file system has them. The folder appears at once and complete, and copied_from.json in it says
// what was copied. Returns the checkpoint's step;
// 0, and no folder, if there is no checkpoint that can be used (a warning says why). Throws Error(ExitCode::data).
int64_t copy_run(const std::filesystem::path& from, const config::Config& config);

// The step that copy_run returned when it made this folder; 0: it did not make it, or its word cannot be read.
int64_t copied_step(const std::filesystem::path& folder);

}  // namespace kiln::train
