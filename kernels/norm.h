// Normalisation over the last axis. Sources: Ba, Kiros, Hinton, "Layer normalization", arXiv 1607.06450; Zhang, Sennrich,
// "Root mean square layer normalization", arXiv 1910.07467.
#pragma once

#include <cstdint>

#include "src/core/dtype.h"

namespace kiln::kernels {

// out = (in - mean) * rstd * weight + bias, row by row; rstd = 1/sqrt(variance + eps), variance without Bessel's
// correction. mean and rstd are kept for the backward pass.
struct LayerNormForward {
  void* out;           // (rows, C) dtype
  float* mean;         // (rows)
  float* rstd;         // (rows)
  const void* in;      // (rows, C) dtype
  const void* weight;  // (C) dtype
  const void* bias;    // (C) dtype
  int64_t rows, C;
  float eps;
  DType dtype;
};

// With h = (in - mean) * rstd and g = d_out * weight:
// d_in = (d_residual or 0) + rstd * (g - mean_C(g) - h * mean_C(g*h)); d_weight += sum_rows d_out*h;
// d_bias += sum_rows d_out. d_in may be the same memory as d_residual (or as d_out).
struct LayerNormBackward {
  void* d_in;              // (rows, C) dtype
  float* d_weight;         // (C), accumulated
  float* d_bias;           // (C), accumulated
  const void* d_out;       // (rows, C) dtype
  const void* d_residual;  // (rows, C) dtype, or null: the gradient that by-passes the norm
  const void* in;          // (rows, C) dtype, as in forward
  const float* mean;       // (rows)
  const float* rstd;       // (rows)
  const void* weight;      // (C) dtype
  int64_t rows, C;
  DType dtype;
};

// out = in * rstd * weight, row by row; rstd = 1/sqrt(mean_C(in^2) + eps), kept for the backward pass.
struct RmsNormForward {
  void* out;           // (rows, C) dtype
  float* rstd;         // (rows)
  const void* in;      // (rows, C) dtype
  const void* weight;  // (C) dtype
  int64_t rows, C;
  float eps;
  DType dtype;
};

// With h = in * rstd and g = d_out * weight: d_in = (d_residual or 0) + rstd * (g - h * mean_C(g*h));
// d_weight += sum_rows d_out*h. d_in may be the same memory as d_residual (or as d_out).
struct RmsNormBackward {
  void* d_in;              // (rows, C) dtype
  float* d_weight;         // (C), accumulated
  const void* d_out;       // (rows, C) dtype
  const void* d_residual;  // (rows, C) dtype, or null: the gradient that by-passes the norm
  const void* in;          // (rows, C) dtype, as in forward
  const float* rstd;       // (rows)
  const void* weight;      // (C) dtype
  int64_t rows, C;
  DType dtype;
};

}  // namespace kiln::kernels
