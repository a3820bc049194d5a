#include "kernels/cuda/column_sums.h"

#include "kernels/cuda/launch.cuh"

namespace kiln::kernels::cuda {
namespace {

constexpr int kChunkWarps = 8, kShareWarps = 16;

// A block: a vector of columns a lane, of one chunk of rows; its warps take the rows in turn.
template <class T, int N>
__global__ void __launch_bounds__(kChunkWarps* kLanes)
    sum_chunk(float* shares, const T* x, int64_t rows, int64_t columns, int64_t ld, int64_t chunk_rows) {
  __shared__ alignas(16) float sums[kChunkWarps][kLanes * N];
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
  const int64_t first = int64_t{blockIdx.x} * kLanes * N, column = first + lane * N;
  const int64_t begin = int64_t{blockIdx.y} * chunk_rows;
  const int64_t end = begin + chunk_rows < rows ? begin + chunk_rows : rows;
  Floats<N> sum = {};
  if (column < columns) {
    for (int64_t row = begin + warp; row < end; row += kChunkWarps) {
      const Floats<N> add = load<N>(x + row * ld + column);
#pragma unroll
      for (int k = 0; k < N; k++) sum.v[k] += add.v[k];
    }
  }
  store<N>(&sums[warp][lane * N], sum);
  __syncthreads();
  for (int i = warp * kLanes + lane; i < kLanes * N && first + i < columns; i += kChunkWarps * kLanes) {
    float total = 0;
#pragma unroll
    for (int w = 0; w < kChunkWarps; w++) total += sums[w][i];
    shares[blockIdx.y * columns + first + i] = total;
  }
}

// A block: 32 columns, a lane each; its warps take the shares in turn.
__global__ void __launch_bounds__(kShareWarps* kLanes)
    add_shares(float* out, const float* shares, int64_t count, int64_t columns, int64_t stride) {
  __shared__ float sums[kShareWarps][kLanes];
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
  const int64_t column = int64_t{blockIdx.x} * kLanes + lane;
  float sum = 0;
  if (column < columns) {
    for (int64_t i = warp; i < count; i += kShareWarps) sum += shares[i * stride + column];
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp == 0 && column < columns) {
    float total = 0;
#pragma unroll
    for (int i = 0; i < kShareWarps; i++) total += sums[i][lane];
    out[column] += total;
  }
}

int64_t chunk_rows_of(int64_t rows) {
  constexpr int64_t kChunks = 128, kLeast = 32;
  const int64_t chunk = (rows + kChunks - 1) / kChunks;
  return chunk < kLeast ? kLeast : chunk;
}

}  // namespace

int64_t column_chunks(int64_t rows) {
  return blocks_for(rows, chunk_rows_of(rows));
}

void sum_column_chunks(float* shares, const void* x, int64_t rows, int64_t columns, int64_t ld, DType dtype,
                       cudaStream_t stream) {
  const bool whole = aligned_rows(dtype, columns, {x}) && aligned_rows(dtype, ld, {});
  with_vectors(dtype, whole, [&]<class T, int N>() {
    const Grid grid{blocks_for(columns, kLanes * N), column_chunks(rows)};
    launch({"sum_column_chunks", grid, dim3(kLanes, kChunkWarps), stream}, sum_chunk<T, N>, shares,
           static_cast<const T*>(x), rows, columns, ld, chunk_rows_of(rows));
  });
}

void add_column_sums(float* out, const float* shares, int64_t count, int64_t columns, int64_t stride,
                     cudaStream_t stream) {
  launch({"add_column_sums", {blocks_for(columns, kLanes)}, dim3(kLanes, kShareWarps), stream}, add_shares,
         out, shares, count, columns, stride);
}

}  // namespace kiln::kernels::cuda
