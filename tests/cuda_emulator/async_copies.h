// cp.async and its groups.
#pragma once

#include "tests/cuda_emulator/memory_ops.h"

namespace kiln::emulator {

void run_copy_async(Warp& warp, const Op& op, uint32_t lanes);
void run_commit_copies(Warp& warp, const Op& op, uint32_t lanes);
void run_wait_copies(Warp& warp, const Op& op, uint32_t lanes);

}  // namespace kiln::emulator
