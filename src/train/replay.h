// An optimizer applied to recorded gradients: how other implementations are compared with these.
#pragma once

#include <filesystem>

#include "src/config/config.h"

namespace kiln::train {

// `tensors` holds parameters NAME.param (fp32, one or two dimensions) and gradients NAME.grad.000001,
// NAME.grad.000002, ..., the same number for each. Hidden matrices go to the configured optimizer, vectors
// and matrices of one row or column to its AdamW group. No schedule, no clipping; a step in which any
// gradient is not finite is skipped for all. Writes NAME.param.000001, ... after each step and the final
// state, NAME.STATE, to `output`, which appears whole or not at all. Throws Error(ExitCode::data) for what
// does not fit.
struct ReplayResult {
  int64_t parameters, steps, skipped;
};
ReplayResult replay(const config::Optimizer& optimizer, const config::DeviceOptions& device,
                    const std::filesystem::path& tensors, const std::filesystem::path& output,
                    bool overwrite);

}  // namespace kiln::train
