// The launch of kernels/cuda/classifier.cu.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/classifier.h"

namespace kiln::kernels::cuda {

void launch_softmax_cross_entropy(const SoftmaxCrossEntropy& p, cudaStream_t stream);

}  // namespace kiln::kernels::cuda
