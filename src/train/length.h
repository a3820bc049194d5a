// How long a run is, and whether a longer run begins exactly as a shorter one.
#pragma once

#include <cstdint>
#include <string>

#include "optim/schedule.h"
#include "src/config/config.h"

namespace kiln::train {

// The learning rate over `steps` steps, which is how many the run has (train.steps, or what train.epochs comes to).
optim::Schedule schedule_of(const config::Config& config, int64_t steps);

// Why the first `steps` steps of a run of `longer` are not those of a run of `shorter`, in words that follow "because";
// "" where they are, to the bit: nothing that counts differs but train.steps or train.tokens, and the learning rate is the
// same at each of these steps. A constant schedule is such a case, a cosine over more steps is not.
std::string difference_at_start(const config::Config& shorter, const config::Config& longer, int64_t steps);

}  // namespace kiln::train
