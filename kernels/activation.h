// Pointwise activations and sums.
#pragma once

#include <cstdint>

#include "src/core/dtype.h"

namespace kiln::kernels {

// out = 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). Source: Hendrycks and Gimpel, arXiv 1606.08415.
struct GeluForward {
  void* out;       // (n) dtype
  const void* in;  // (n) dtype
  int64_t n;
  DType dtype;
};

// d_in = d_out * gelu'(in); d_in may be the same memory as d_out.
struct GeluBackward {
  void* d_in;         // (n) dtype
  const void* d_out;  // (n) dtype
  const void* in;     // (n) dtype, as in forward
  int64_t n;
  DType dtype;
};

// out = silu(gate) * up, silu(x) = x / (1 + exp(-x)). Source: Shazeer, "GLU variants improve transformer", arXiv 2002.05202.
struct SwigluForward {
  void* out;       // (rows, F) dtype
  const void* in;  // (rows, 2F) dtype: gate, then up
  int64_t rows, F;
  DType dtype;
};

// d_gate = d_out * up * silu'(gate), d_up = d_out * silu(gate); d_in may be the same memory as `in`.
struct SwigluBackward {
  void* d_in;         // (rows, 2F) dtype: of gate, then of up
  const void* d_out;  // (rows, F) dtype
  const void* in;     // (rows, 2F) dtype, as in forward
  int64_t rows, F;
  DType dtype;
};

// out = a + b; out may be the same memory as a or b.
struct ResidualForward {
  void* out;  // (n) dtype
  const void* a;
  const void* b;
  int64_t n;
  DType dtype;
};

}  // namespace kiln::kernels
