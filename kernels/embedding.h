// Token plus learned position embedding. Source: Radford et al., "Language models are unsupervised multitask learners".
#pragma once

#include <cstdint>

#include "src/core/dtype.h"

namespace kiln::kernels {

// out[b,t,:] = token_table[tokens[b,t],:] + position_table[t,:]
struct EmbeddingForward {
  void* out;                   // (B, T, C) dtype
  const int32_t* tokens;       // (B, T), each in [0, V); checked by the data reader, not here
  const void* token_table;     // (V, C) dtype
  const void* position_table;  // (>= T, C) dtype, or null: no positions
  int64_t B, T, C;
  DType dtype;
};

// d_token_table[tokens[b,t],:] += d_out[b,t,:]; d_position_table[t,:] += sum_b d_out[b,t,:]. Deterministic.
struct EmbeddingBackward {
  float* d_token_table;     // (V, C), accumulated
  float* d_position_table;  // (>= T, C), accumulated, or null
  const void* d_out;        // (B, T, C) dtype
  const int32_t* tokens;    // (B, T)
  int64_t B, T, C;
  DType dtype;
};

}  // namespace kiln::kernels
