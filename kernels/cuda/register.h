// The CUDA kernels as kernels/table.cpp sees them. No CUDA header.
#pragma once

#include "kernels/table.h"

namespace kiln::kernels::cuda {

// The kernels of one dtype; those that are missing stay holes.
void fill(KernelTable& table, DType dtype);

}  // namespace kiln::kernels::cuda
