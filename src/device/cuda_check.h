// Checked calls of the CUDA runtime. For files that may include CUDA's headers only.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace kiln {

// Throws Error(ExitCode::device) with CUDA's name and text of the error unless `error` is cudaSuccess. `what` says what
// was being done: "allocating device memory".
void check(cudaError_t error, const char* what);

// Throws Error(ExitCode::device) unless CUDA can launch so many blocks at once; `what` is the kernel.
void check_grid(int64_t x, int64_t y, const char* what);

}  // namespace kiln
