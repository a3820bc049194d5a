// Sums over the rows of a matrix, in two kernels: the first leaves partial sums in the workspace, one row of them a chunk
// of rows, the second adds them up in a fixed order. So there are no atomics, and the same bits each time.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "src/core/dtype.h"

namespace kiln::kernels::cuda {

// The first half, for a matrix x (rows, columns) of `dtype`, its rows ld apart. `shares`: column_chunks(rows) rows of
// `columns` floats. How many chunks there are depends on the number of rows alone.
int64_t column_chunks(int64_t rows);
void sum_column_chunks(float* shares, const void* x, int64_t rows, int64_t columns, int64_t ld, DType dtype,
                       cudaStream_t stream);

// The second half: out[c] += sum over i < count of shares[i * stride + c], c < columns.
void add_column_sums(float* out, const float* shares, int64_t count, int64_t columns, int64_t stride,
                     cudaStream_t stream);

}  // namespace kiln::kernels::cuda
