// Causal multi-head attention with an online softmax: no T x T matrix is ever stored.
// Sources: Vaswani et al., arXiv 1706.03762; Milakov and Gimelshein, arXiv 1805.02867; Dao et al., arXiv 2205.14135;
// grouped key/value heads: Ainslie et al., arXiv 2305.13245.
#pragma once

#include <cstdint>

#include "src/core/dtype.h"

namespace kiln::kernels {

// Query head h reads key/value head h / (heads / kv_heads). With s[t,u] = scale * q[t].k[u] for u <= t:
// out[t] = sum_u softmax(s[t,:])[u] v[u], lse[t] = log sum_u exp(s[t,u]).
// q, k, v may be slices of one fused projection: token rows lie q_stride, k_stride, v_stride elements apart, head h
// starts at element h * head_size of the row.
struct AttentionForward {
  void* out;      // (B, T, heads, head_size) dtype, contiguous
  float* lse;     // (B, heads, T)
  const void* q;  // (B, T, heads, head_size) dtype, strided
  const void* k;  // (B, T, kv_heads, head_size) dtype, strided
  const void* v;  // (B, T, kv_heads, head_size) dtype, strided
  int64_t B, T, heads, kv_heads, head_size;
  int64_t q_stride, k_stride, v_stride;  // elements between tokens
  float scale;                           // usually 1/sqrt(head_size)
  DType dtype;
};

// Gradients with respect to q, k, v (written, not accumulated), laid out like q, k, v with the same strides.
struct AttentionBackward {
  void* d_q;
  void* d_k;
  void* d_v;
  const void* d_out;  // (B, T, heads, head_size) dtype, contiguous
  const void* out;    // of the forward pass
  const float* lse;   // of the forward pass
  const void* q;
  const void* k;
  const void* v;
  int64_t B, T, heads, kv_heads, head_size;
  int64_t q_stride, k_stride, v_stride;
  float scale;
  DType dtype;
};

// Keys and values of tokens that have been seen, kept for those that follow: a cache is dense,
// (B, kv_heads, capacity, head_size), so that what one head reads lies together.

// k_cache[b,h,position+t] = k[b,t,h], v_cache likewise, for t < T.
struct AttentionStore {
  void* k_cache;  // (B, kv_heads, capacity, head_size) dtype
  void* v_cache;
  const void* k;  // (B, T, kv_heads, head_size) dtype, strided
  const void* v;
  int64_t B, T, kv_heads, head_size;
  int64_t capacity, position;  // position + T <= capacity
  int64_t k_stride, v_stride;  // elements between tokens
  DType dtype;
};

// One query a sequence, that of its latest token, which sees all `length` positions in the cache, its own
// among them: out = sum_u softmax(scale * q.k[u]) v[u], u < length. Query heads are grouped as above.
struct AttentionDecode {
  void* out;      // (B, heads, head_size) dtype, contiguous
  const void* q;  // (B, heads, head_size) dtype, strided
  const void* k;  // (B, kv_heads, capacity, head_size) dtype
  const void* v;
  int64_t B, heads, kv_heads, head_size;
  int64_t capacity, length;  // 1 <= length <= capacity
  int64_t q_stride;          // elements between sequences
  float scale;
  DType dtype;
};

}  // namespace kiln::kernels
