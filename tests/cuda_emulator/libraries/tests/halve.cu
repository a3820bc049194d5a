#include "tests/cuda_emulator/libraries/tests/halve.h"

namespace {

__global__ void halve(float* out, const float* in, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) out[i] = 0.5f * in[i];
}

}  // namespace

namespace kiln::emulator::testing {

void launch_halve(float* out, const float* in, int count, cudaStream_t stream) {
  halve<<<(count + 63) / 64, 64, 0, stream>>>(out, in, count);
}

}  // namespace kiln::emulator::testing
