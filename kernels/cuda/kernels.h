// What the host side of every CUDA kernel needs.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/table.h"
#include "src/core/error.h"

namespace kiln::kernels::cuda {

// Null would mean CUDA's default stream, which nothing of Kiln is ordered against.
inline cudaStream_t stream_of(const Context& context) {
  require(context.stream != nullptr, "a CUDA kernel was called without a stream");
  return static_cast<cudaStream_t>(context.stream);
}

// In the body of a fill_*(KernelTable& table): enters the kernel of that name.
#define KILN_CUDA_KERNEL(function) \
  table.function = &function;      \
  table.function##_workspace_bytes = &function##_workspace_bytes;

// The kernels that there are, by family; each file kernels/cuda/X.cpp has one.
void fill_norm(KernelTable& table);
void fill_activation(KernelTable& table);
void fill_classifier(KernelTable& table);
void fill_linear(KernelTable& table);

}  // namespace kiln::kernels::cuda
