// LayerNorm forward as kernels usually have it: the program that the emulator's speed is measured with.
#pragma once

#include <cuda_runtime_api.h>

namespace kiln::emulator::testing {

// out[r][c] = (in[r][c] - mean[r]) * rstd[r] * weight[c] + bias[c]; columns a multiple of 4.
void layernorm_forward(float* out, float* mean, float* rstd, const float* in, const float* weight,
                       const float* bias, int rows, int columns, cudaStream_t stream);

}  // namespace kiln::emulator::testing
