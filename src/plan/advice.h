// What to do about a run that needs too much memory.
#pragma once

#include <string>

#include "src/core/parallel.h"
#include "src/device/memory.h"
#include "src/plan/planned_run.h"

namespace kiln::plan {

// The keys that lower the memory of this run for its purpose, each with the total that half of its value would need,
// planned anew; for a trained model those that leave its weights as they are.
std::string how_to_lower(const config::Config& config, const PlannedRun& run, const Device& device);

// Runs `allocate`; an OutOfMemory from it gets that advice as its hint.
void with_advice(const config::Config& config, const PlannedRun& run, const Device& device,
                 FunctionRef<void()> allocate);

}  // namespace kiln::plan
