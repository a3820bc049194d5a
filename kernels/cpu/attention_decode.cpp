// Attention of one new token to a cache of keys and values. A task is a head; it walks over tiles of keys
// with a running maximum and sum, as the forward pass does (attention_forward.cpp), and adds values up where
// its result goes, so it needs no memory of its own.
#include "kernels/cpu/simd.h"

namespace kiln::kernels::cpu::KILN_ISA {
namespace {

constexpr int64_t kTileKeys = 64;
static_assert(kTileKeys % kLanes == 0);

// scores[u] = scale * q.k[u] for u < keys; -infinity behind, up to the end of a vector.
void score_tile(const AttentionDecode& p, const float* q, const float* k, int64_t keys, float* scores) {
  for (int64_t u = 0; u < keys; u++) {
    const float* key = k + u * p.head_size;
    Vec total = {};
    for_vectors(0, p.head_size, [&](auto lanes) { total += lanes.load(q) * lanes.load(key); });
    scores[u] = p.scale * sum(total);
  }
  for (int64_t u = keys; u % kLanes != 0; u++) scores[u] = -__builtin_inff();
}

// out[d] = out[d] * factor + sum over u of weight[u] * v[u][d], for kVecs vectors of d.
template <int kVecs>
void add_values(float* out, const float* weights, const float* v, int64_t keys, int64_t head_size,
                float factor) {
  Vec sums[kVecs];
  for (int i = 0; i < kVecs; i++) sums[i] = load(out + i * kLanes) * broadcast(factor);
  for (int64_t u = 0; u < keys; u++) {
    const Vec weight = broadcast(weights[u]);
    for (int i = 0; i < kVecs; i++) sums[i] += weight * load(v + u * head_size + i * kLanes);
  }
  for (int i = 0; i < kVecs; i++) store(out + i * kLanes, sums[i]);
}

void add_rest(float* out, const float* weights, const float* v, int64_t keys, int64_t head_size, float factor,
              int64_t count) {
  Vec sums = load_partial(out, count) * broadcast(factor);
  for (int64_t u = 0; u < keys; u++) sums += broadcast(weights[u]) * load_partial(v + u * head_size, count);
  store_partial(out, sums, count);
}

void add_tile(float* out, const float* weights, const float* v, int64_t keys, int64_t head_size,
              float factor) {
  constexpr int kVecs = 4;
  int64_t d = 0;
  for (; d + kVecs * kLanes <= head_size; d += kVecs * kLanes) {
    add_values<kVecs>(out + d, weights, v + d, keys, head_size, factor);
  }
  for (; d + kLanes <= head_size; d += kLanes)
    add_values<1>(out + d, weights, v + d, keys, head_size, factor);
  if (d < head_size) add_rest(out + d, weights, v + d, keys, head_size, factor, head_size - d);
}

void decode_head(const AttentionDecode& p, int64_t b, int64_t h) {
  const int64_t cache = (b * p.kv_heads + h / (p.heads / p.kv_heads)) * p.capacity * p.head_size;
  const float* q = static_cast<const float*>(p.q) + b * p.q_stride + h * p.head_size;
  const float* k = static_cast<const float*>(p.k) + cache;
  const float* v = static_cast<const float*>(p.v) + cache;
  float* out = static_cast<float*>(p.out) + (b * p.heads + h) * p.head_size;
  for_vectors(0, p.head_size, [=](auto lanes) { lanes.store(out, Vec{}); });
  float maximum = -__builtin_inff(), total = 0;
  float weights[kTileKeys];
  for (int64_t first = 0; first < p.length; first += kTileKeys) {
    const int64_t keys = p.length - first < kTileKeys ? p.length - first : kTileKeys;
    score_tile(p, q, k + first * p.head_size, keys, weights);
    Vec highest = broadcast(maximum);
    for (int64_t u = 0; u < keys; u += kLanes) highest = max(highest, load(weights + u));
    const float grown = max_element(highest), factor = exp(broadcast(maximum - grown))[0];
    Vec sums = {};
    for (int64_t u = 0; u < keys; u += kLanes) {
      const Vec e = exp(load(weights + u) - broadcast(grown));
      store(weights + u, e);
      sums += e;
    }
    total = total * factor + sum(sums);
    maximum = grown;
    add_tile(out, weights, v + first * p.head_size, keys, p.head_size, factor);
  }
  const float inverse = 1.0f / total;
  for_vectors(0, p.head_size, [=](auto lanes) { lanes.store(out, lanes.load(out) * broadcast(inverse)); });
}

}  // namespace

void attention_decode(Context& context, const AttentionDecode& p) {
  // Heads that read few keys go to a thread together: handing them out would cost more than they do.
  const int64_t grain = 1 + 16 * 1024 / (p.length * p.head_size);
  context.pool->parallel_for(p.B * p.heads, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) decode_head(p, i / p.heads, i % p.heads);
  });
}

void attention_store(Context& context, const AttentionStore& p) {
  const int64_t grain = 1 + 16 * 1024 / (p.kv_heads * p.head_size);  // tokens
  context.pool->parallel_for(p.B * p.T, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t b = i / p.T, t = i % p.T;
      const float* k = static_cast<const float*>(p.k) + i * p.k_stride;
      const float* v = static_cast<const float*>(p.v) + i * p.v_stride;
      for (int64_t h = 0; h < p.kv_heads; h++) {
        const int64_t to = ((b * p.kv_heads + h) * p.capacity + p.position + t) * p.head_size;
        const auto copy = [&](void* cache, const float* from) {
          float* row = static_cast<float*>(cache) + to;
          for_vectors(0, p.head_size, [=](auto lanes) { lanes.store(row, lanes.load(from)); });
        };
        copy(p.k_cache, k + h * p.head_size);
        copy(p.v_cache, v + h * p.head_size);
      }
    }
  });
}

size_t attention_decode_workspace_bytes(const AttentionDecode&, const Device&) {
  return 0;
}
size_t attention_store_workspace_bytes(const AttentionStore&, const Device&) {
  return 0;
}

}  // namespace kiln::kernels::cpu::KILN_ISA
