// Running this program again as a child process.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "src/core/parallel.h"

namespace kiln::train {

// Runs `kiln ARGUMENTS...`, its output appended to `log`, and waits for it. A stop signal (stop.h) that arrives
// meanwhile is passed on once, so that the child writes its checkpoint; the child also gets SIGTERM when this process
// dies. Returns its exit code, or 128 + the signal that ended it. Throws Error(ExitCode::failure) when it cannot start.
// `meanwhile` is called some fifty times a second.
int run_kiln(const std::vector<std::string>& arguments, const std::filesystem::path& log,
             FunctionRef<void()> meanwhile);

}  // namespace kiln::train
