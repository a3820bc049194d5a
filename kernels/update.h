// Element-wise work of the optimizer step.
#pragma once

#include <cstdint>

#include "src/core/dtype.h"

namespace kiln::kernels {

// *out = sum of x[i]^2, accumulated in fp64, the same whatever the number of threads. An infinite or NaN element makes
// it infinite or NaN.
struct SumOfSquares {
  double* out;
  const float* x;
  int64_t n;
  DType dtype;  // of x: f32
};

// AdamW, Loshchilov and Hutter, arXiv 1711.05101. With g = gradient_scale * gradient:
// m <- b1 m + (1-b1) g; v <- b2 v + (1-b2) g^2;
// param <- (1 - lr weight_decay) param - lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps)
struct AdamWStep {
  float* param;  // (n) fp32 master
  float* m;      // (n)
  float* v;      // (n)
  const float* gradient;
  int64_t n;
  int64_t t;  // 1 for the first step
  double lr, b1, b2, eps, weight_decay;
  double gradient_scale;  // clipping
  DType dtype;            // of the gradient: f32
};

// x[i] = 0
struct SetZero {
  void* x;
  int64_t bytes;
  DType dtype;
};

}  // namespace kiln::kernels
