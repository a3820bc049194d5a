// Rotary position embedding. Source: Su et al., "RoFormer", arXiv 2104.09864, with LLaMA's pairing of channels: i with
// i + head_size/2 ("rotate half").
#pragma once

#include <cstdint>

#include "src/core/dtype.h"

namespace kiln::kernels {

// out[t, 0, i] = cos(a), out[t, 1, i] = sin(a) with a = (first + t) theta^(-2i / head_size), i < head_size/2; a in fp64.
struct RotaryAngles {
  float* out;                   // (T, 2, head_size/2)
  int64_t first, T, head_size;  // head_size even
  double theta;
  DType dtype;  // of the tensors that will be rotated
};

// Turns each pair of channels of each head by its token's angles, in place: (x, y) <- (x cos - y sin, y cos + x sin) for
// x = in[i], y = in[i + head_size/2]. With `inverse` by the opposite angles, which is also the backward pass.
struct Rotary {
  void* x;              // (B, T, heads, head_size) dtype, strided
  const float* angles;  // (T, 2, head_size/2), of RotaryAngles
  int64_t B, T, heads, head_size;
  int64_t stride;  // elements between tokens
  bool inverse;
  DType dtype;
};

}  // namespace kiln::kernels
