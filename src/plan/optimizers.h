// The optimizer section of a config turned into optimizers.
#pragma once

#include "optim/routing.h"
#include "src/config/config.h"
#include "src/device/device.h"

namespace kiln::plan {

// That of hidden matrices; null for AdamW, which has no part of its own for them. The device decides what
// "auto" precisions are; asking it for one that it lacks throws Error(ExitCode::device). `tail_rank`: what KL-Shampoo's
// reports are to say of its spectra (optim::KlShampooOptions).
std::unique_ptr<optim::Optimizer> matrix_optimizer(const config::Optimizer& config, const Device& device,
                                                   int64_t tail_rank = 0);

// Of what matrix_optimizer does not update.
optim::AdamWOptions adamw_options(const config::Optimizer& config);

optim::Routing route(const ParameterTable& parameters, const config::Optimizer& config, const Device& device,
                     int64_t tail_rank = 0);

}  // namespace kiln::plan
