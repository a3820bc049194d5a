// First values of parameters. Value i of a parameter is a function of (seed, name, i) alone: neither threads
// nor ranks nor the layout in memory change it. These functions write host memory through Parameter::master.
#pragma once

#include <cstdint>

#include "src/device/context.h"
#include "src/device/parameters.h"

namespace kiln::models {

void fill_constant(const Parameter& parameter, float value);

// Row-major elements [0, count) become N(0, deviation^2), the rest 0.
void fill_normal(Context& context, const Parameter& parameter, int64_t count, double deviation,
                 uint64_t seed);

}  // namespace kiln::models
