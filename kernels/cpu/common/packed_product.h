// out = a b + bias or out += a b with b in panels, tiled over the threads: what forward and input gradient
// share.
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/device/context.h"

namespace kiln::kernels::cpu {

struct PackedProduct {
  float* out;           // (rows, N), rows ld_out apart
  const float* a;       // (rows, K), contiguous
  const float* panels;  // (K, N) as pack.h lays it out
  const float* bias;    // (N), or null; not together with accumulate
  int64_t rows, N, K, ld_out;
  bool accumulate;
};

void packed_multiply(Context& context, const PackedProduct& p);

// `has_bias`: pointers may be null when this is asked.
size_t packed_multiply_workspace_bytes(const PackedProduct& p, bool has_bias, const Device& device);

}  // namespace kiln::kernels::cpu
