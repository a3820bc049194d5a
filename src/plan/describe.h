// A planned run as text for people.
#pragma once

#include <cstdint>
#include <string>

#include "src/plan/planned_run.h"

namespace kiln::plan {

// Name, shape, count, elements and kind; one row stands for the same parameter of all layers.
std::string parameter_table(const ParameterTable& parameters);

// The flops of a token, counted from the kernel calls, and the formula that gives the same number.
std::string flops_text(const PlannedRun& run, const config::Config& config);

// What `kiln plan` prints: parameters, memory of one rank by category and of `ranks` >= 1 together, how they share a
// step, flops. Ranks are data parallel and hold everything once each, so memory a rank does not depend on their number.
std::string plan_text(const PlannedRun& run, const config::Config& config, int64_t ranks);

}  // namespace kiln::plan
