#include "tests/cuda_emulator/tests/layernorm.h"

namespace kiln::emulator::testing {

namespace {

__device__ float warp_sum(float v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) v += __shfl_xor_sync(0xffffffffu, v, offset);
  return v;
}

// One warp a row, eight rows a block.
__global__ void __launch_bounds__(256)
    forward(float* __restrict__ out, float* __restrict__ mean, float* __restrict__ rstd,
            const float* __restrict__ in, const float* __restrict__ weight, const float* __restrict__ bias,
            int rows, int columns) {
  const int row = blockIdx.x * blockDim.y + threadIdx.y, lane = threadIdx.x;
  if (row >= rows) return;
  const float4* x = reinterpret_cast<const float4*>(in + static_cast<size_t>(row) * columns);
  float sum = 0;
  for (int c = lane; c < columns / 4; c += 32) {
    const float4 v = x[c];
    sum += v.x + v.y + v.z + v.w;
  }
  const float m = warp_sum(sum) / columns;
  float squares = 0;
  for (int c = lane; c < columns / 4; c += 32) {
    const float4 v = x[c];
    squares += (v.x - m) * (v.x - m) + (v.y - m) * (v.y - m) + (v.z - m) * (v.z - m) + (v.w - m) * (v.w - m);
  }
  const float r = rsqrtf(warp_sum(squares) / columns + 1e-5f);
  float4* y = reinterpret_cast<float4*>(out + static_cast<size_t>(row) * columns);
  for (int c = lane; c < columns / 4; c += 32) {
    const float4 v = x[c], w = reinterpret_cast<const float4*>(weight)[c],
                 b = reinterpret_cast<const float4*>(bias)[c];
    y[c] = make_float4((v.x - m) * r * w.x + b.x, (v.y - m) * r * w.y + b.y, (v.z - m) * r * w.z + b.z,
                       (v.w - m) * r * w.w + b.w);
  }
  if (lane == 0) {
    mean[row] = m;
    rstd[row] = r;
  }
}

}  // namespace

void layernorm_forward(float* out, float* mean, float* rstd, const float* in, const float* weight,
                       const float* bias, int rows, int columns, cudaStream_t stream) {
  forward<<<(rows + 7) / 8, dim3(32, 8), 0, stream>>>(out, mean, rstd, in, weight, bias, rows, columns);
}

}  // namespace kiln::emulator::testing
