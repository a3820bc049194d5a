// Linear layers: the GEMMs of the network. Weights are (out features N, in features K), row-major.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "src/core/dtype.h"
#include "src/device/context.h"

namespace kiln::kernels {

// A weight as linear kernels see it: the row-major master and room for the forms that a GEMM library prefers.
// The forms are remade when *version differs from what they were made of, that is once per optimizer step:
// whoever writes to `weight` without bumping the version gets results of the old values.
struct PackedWeight {
  const void* weight = nullptr;       // (N, K) dtype, row-major
  const uint64_t* version = nullptr;  // bumped by every update of `weight`
  void* storage = nullptr;  // packed_weight_bytes(...) of planned memory, Category::packed_weights; null:
                            // kernels read `weight` itself, which is slower
  int64_t N = 0, K = 0;
  DType dtype = DType::f32;
  uint64_t forward_version = 0, backward_version = 0;  // of the forms in storage; 0: never made
};

// What PackedWeight::storage takes; 0 where the device's library reads weights as they are. `backward` false
// where only forward passes will run: the weight must then not reach linear_backward_input.
size_t packed_weight_bytes(int64_t N, int64_t K, DType dtype, const Device& device, bool backward);

// out = in W^T + bias
struct LinearForward {
  void* out;             // (rows, N) dtype, rows ld_out apart
  const void* in;        // (rows, K) dtype, contiguous
  PackedWeight* weight;  // (N, K)
  const void* bias;      // (N) dtype, or null
  int64_t rows, N, K;
  int64_t ld_out;  // >= N; N is fastest
  DType dtype;
};

// d_in = d_out W, or d_in += d_out W
struct LinearBackwardInput {
  void* d_in;         // (rows, K) dtype, contiguous
  const void* d_out;  // (rows, N) dtype, rows ld_out apart
  PackedWeight* weight;
  int64_t rows, N, K;
  int64_t ld_out;  // >= N; N is fastest
  bool accumulate;
  DType dtype;
};

// d_weight += d_out^T in; d_bias += sum_rows d_out
struct LinearBackwardWeight {
  float* d_weight;    // (N, K), accumulated
  float* d_bias;      // (N), accumulated, or null
  const void* d_out;  // (rows, N) dtype, rows ld_out apart
  const void* in;     // (rows, K) dtype, contiguous
  int64_t rows, N, K;
  int64_t ld_out;  // >= N
  DType dtype;
};

// The most fp32 GFLOP/s (1e9 operations per second) that linear_forward reaches on this device with all its
// threads, at a favourable shape and with warm caches: the peak that utilisation is measured against. Best of
// short runs during some `seconds`; allocates memory of its own, so not for the middle of a step.
double measure_gemm_peak(Context& context, double seconds);

// "oneDNN 2.6.3 (packed matmul in use), OpenBLAS 0.3.21 (SkylakeX)": the libraries behind the CPU's GEMMs.
std::string library_versions();

}  // namespace kiln::kernels
