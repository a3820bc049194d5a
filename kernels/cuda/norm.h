// Launches of kernels/cuda/norm.cu.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/norm.h"

namespace kiln::kernels::cuda {

void launch_norm_forward(const LayerNormForward& p, cudaStream_t stream);
void launch_norm_forward(const RmsNormForward& p, cudaStream_t stream);

// Columns that a block has shared memory for on every GPU that kiln runs on.
inline constexpr int64_t kMostNormColumns = 12288;

// Rows are cut into chunks, each of which leaves one row of partial sums; how many depends on the number of rows alone.
int64_t norm_chunks(int64_t rows);

// `shares`: norm_chunks(rows) rows of 2 C floats: of d_weight and d_bias; C for RMS norm.
void launch_norm_backward(const LayerNormBackward& p, float* shares, cudaStream_t stream);
void launch_norm_backward(const RmsNormBackward& p, float* shares, cudaStream_t stream);

}  // namespace kiln::kernels::cuda
