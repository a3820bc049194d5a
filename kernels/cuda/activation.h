// Launches of kernels/cuda/activation.cu.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/activation.h"

namespace kiln::kernels::cuda {

void launch_gelu_forward(const GeluForward& p, cudaStream_t stream);
void launch_gelu_backward(const GeluBackward& p, cudaStream_t stream);
void launch_swiglu_forward(const SwigluForward& p, cudaStream_t stream);
void launch_swiglu_backward(const SwigluBackward& p, cudaStream_t stream);
void launch_residual_forward(const ResidualForward& p, cudaStream_t stream);

}  // namespace kiln::kernels::cuda
