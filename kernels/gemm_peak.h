// What kernels::measure_gemm_peak (linear.h) multiplies, for those who tell of it.
#pragma once

#include <cstdint>

#include "src/device/device.h"

namespace kiln::kernels {

// (rows, K) by (K, N), in fp32.
struct GemmPeakShape {
  int64_t rows, N, K;
};
GemmPeakShape gemm_peak_shape(const Device& device);

}  // namespace kiln::kernels
