// Kernels around instructions that need more than single values: matrices, shared memory, asynchronous copies.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace kiln::emulator::testing {

enum class Mma { kBrain16, kBrain8, kHalf16, kHalf8, kHalf16InHalf };

// One warp. Registers of lane l at [l * count + i]: a of 4, b of 2, c and d of 4 (of kHalf16InHalf: 2 used).
void launch_mma(Mma kind, uint32_t* d, const uint32_t* a, const uint32_t* b, const uint32_t* c);

// Copies 4 tiles of 8x8 16-bit elements (64 each) to shared memory and loads them by ldmatrix; `tiles` 1, 2 or 4.
// Lane l leaves its registers at [l * 4 + i].
void launch_ldmatrix(uint32_t* out, const uint16_t* in, int tiles, bool transposed);

// 256 floats through shared memory in two groups of cp.async, the second read after the second wait only; of the last
// copy only `tail` bytes are read, the rest is filled with zeros.
void launch_copy_async(float* out, const float* in, int tail);

}  // namespace kiln::emulator::testing
