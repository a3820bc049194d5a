// What to do about a run that needs too much memory.
#pragma once

#include <string>

#include "src/core/parallel.h"
#include "src/device/memory.h"
#include "src/plan/planned_run.h"

namespace kiln::plan {

// The keys that lower the memory of this run, each with the total that half of its value would need, planned anew.
std::string how_to_lower(const config::Config& config, const PlannedRun& run, const Device& device);

// Runs `allocate`; an OutOfMemory from it gets that advice as its hint.
void with_advice(const config::Config& config, const PlannedRun& run, const Device& device,
                 FunctionRef<void()> allocate);

}  // namespace kiln::plan
