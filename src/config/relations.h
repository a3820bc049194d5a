// What must hold between keys.
#pragma once

#include <string>

#include "src/config/assign.h"

namespace kiln::config {

// Fills in what 0 or empty stands for (model.ffn, train.sequence, train.tokens_per_step, train.steps where train.tokens
// decides it, output.dir) and checks that nothing required is missing and that the keys fit each other. `name`: the config's file, for
// messages and output.dir.
void resolve(Assignment& assignment, const std::string& name);

// The same for the keys of the optimizer alone.
void resolve_optimizer(Assignment& assignment, const std::string& name);

// The optimizer steps of a run over data of `sequences` sequences: train.steps, or as many as train.epochs takes.
// Throws Error(ExitCode::usage) when the schedule does not fit into them.
int64_t steps_of(const Config& config, int64_t sequences);

}  // namespace kiln::config
