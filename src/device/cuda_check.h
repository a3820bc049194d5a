// Checked calls of the CUDA runtime. For files that may include CUDA's headers only.
#pragma once

#include <cuda_runtime_api.h>

namespace kiln {

// Throws Error(ExitCode::device) with CUDA's name and text of the error unless `error` is cudaSuccess. `what` says what
// was being done: "allocating device memory".
void check(cudaError_t error, const char* what);

}  // namespace kiln
