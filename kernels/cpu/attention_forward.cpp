// Attention forward: a tile of queries walks over the tiles of keys up to the diagonal with a running row
// maximum and row sum. A task is a key/value head with all its queries or, where those are too few for the
// threads, one tile of queries of one head. The results are the same bit for bit.
#include "kernels/cpu/attention_tiles.h"

namespace kiln::kernels::cpu::KILN_ISA {

namespace attention {
namespace {

// Per worker; arrays over queries lie along vector lanes.
struct ForwardScratch {
  float* k;        // (key_rows, head_size); key_rows is T for whole heads, else kTile
  float* v;        // (key_rows, head_size)
  float* q;        // (head_size, kTile): Q^T, times scale
  float* out;      // (head_size, kTile): O^T; before that Q
  float* p;        // (kTile, kStrip): scores, then probabilities
  float* maximum;  // (kTile): of the scores seen so far
  float* sum;      // (kTile): of exp(score - maximum)
  float* rescale;  // (kTile): what a grown maximum does to sums so far
  int64_t key_rows;
  int64_t count;

  ForwardScratch(float* base, int64_t rows_of_keys, int64_t head_size) : key_rows(rows_of_keys) {
    const int64_t width = padded(head_size), rows = round_up(key_rows, kBlockRows);
    Scratch scratch{base};
    k = scratch.take(rows * width);
    v = scratch.take(rows * width);
    q = scratch.take(width * kTile);
    out = scratch.take(width * kTile);
    p = scratch.take(kTile * kStrip);
    maximum = scratch.take(kTile);
    sum = scratch.take(kTile);
    rescale = scratch.take(kTile);
    count = scratch.used;
  }
};

// The tensors of one head.
struct ForwardHead {
  const AttentionForward& p;
  int64_t b, h;

  int64_t kv_head() const { return h / (p.heads / p.kv_heads); }
  Rows<const float> q(int64_t t) const {
    return tile_of(p, static_cast<const float*>(p.q), p.q_stride, b, h, t);
  }
  Rows<const float> k(int64_t u) const {
    return tile_of(p, static_cast<const float*>(p.k), p.k_stride, b, kv_head(), u);
  }
  Rows<const float> v(int64_t u) const {
    return tile_of(p, static_cast<const float*>(p.v), p.v_stride, b, kv_head(), u);
  }
  Rows<float> out(int64_t t) const {
    return tile_of(p, static_cast<float*>(p.out), p.heads * p.head_size, b, h, t);
  }
  void expect_keys(int64_t u, Ahead& ahead) const {
    ahead.add(k(u));
    ahead.add(v(u));
  }
};

// Scores of one vector of queries become probabilities relative to the running maximum; sum and rescale
// follow. Lane i sees the keys u <= diagonal + i.
inline void softmax_step(float* p, int64_t keys, int64_t diagonal, float* maximum, float* sum,
                         float* rescale) {
  const int64_t visible = at_most(diagonal + 1, keys);  // to every lane
  const Vec before = load(maximum);
  Vec m = before;
  for (int64_t u = 0; u < visible; u++) m = max(m, load(p + u * kStrip));
  for (int64_t u = visible; u < keys; u++) {
    const Vec s = sees(diagonal, u) ? load(p + u * kStrip) : broadcast(-__builtin_inff());
    store(p + u * kStrip, s);
    m = max(m, s);
  }
  const Vec factor = exp(before - m);
  Vec total = load(sum) * factor;
  for (int64_t u = 0; u < keys; u++) {
    const Vec e = exp(load(p + u * kStrip) - m);
    store(p + u * kStrip, e);
    total += e;
  }
  store(maximum, m);
  store(sum, total);
  store(rescale, factor);
}

// kVecs vectors of queries from column t of the tile on against `keys` keys from k and v on, of which the
// first is `offset` keys before the first of these queries.
template <int64_t kVecs>
void forward_strip(const ForwardScratch& s, const float* k, const float* v, int64_t t, int64_t keys,
                   int64_t offset, int64_t head_size, Ahead& ahead) {
  const int64_t width = padded(head_size);
  multiply<kVecs, Order::rows, Start::overwrite>(ahead, keys, head_size, k, width, s.q + t, kTile, s.p,
                                                 kStrip);
  for (int64_t lane = 0; lane < kVecs * kLanes; lane += kLanes) {
    softmax_step(s.p + lane, keys, offset + lane, s.maximum + t + lane, s.sum + t + lane,
                 s.rescale + t + lane);
  }
  multiply<kVecs, Order::columns, Start::rescale>(ahead, round_up(head_size, kBlockRows), keys, v, width, s.p,
                                                  kStrip, s.out + t, kTile, s.rescale + t);
}

// Queries [first, first + lanes), as loaded into s, against the keys from u on, at most `keys`, at k and v.
void forward_tile(const ForwardScratch& s, const float* k, const float* v, int64_t first, int64_t lanes,
                  int64_t u, int64_t keys, int64_t head_size, Ahead& ahead) {
  for (int64_t t = 0; t < lanes; t += kStrip) {
    const int64_t offset = first + t - u, columns = at_most(lanes - t, kStrip);
    if (columns == kStrip) {  // its last query sees keys up to itself
      forward_strip<kBlockVecs>(s, k, v, t, at_most(keys, offset + kStrip), offset, head_size, ahead);
    } else {
      for (int64_t i = 0; i < columns; i += kLanes) {
        forward_strip<1>(s, k, v, t + i, at_most(keys, offset + i + kLanes), offset + i, head_size, ahead);
      }
    }
  }
}

// One tile of queries against all its keys, of which s holds the first keys_loaded already.
void forward_queries(const ForwardHead& head, int64_t first, int64_t keys_loaded, const ForwardScratch& s,
                     Ahead& ahead) {
  const AttentionForward& p = head.p;
  const Rows<float> out = head.out(first);
  const int64_t lanes = round_up(out.count, kLanes), width = padded(p.head_size);
  copy_in(s.out, head.q(first), kLanes, p.head_size);
  transpose_in(s.q, s.out, lanes, p.head_size, p.scale);
  set_zero(s.out, width * kTile);
  for (int64_t t = 0; t < lanes; t += kLanes) {
    store(s.maximum + t, broadcast(-__builtin_inff()));
    store(s.sum + t, Vec{});
  }
  for (int64_t u = 0; u < first + out.count; u += kTile) {
    const Rows<const float> k = head.k(u);
    const int64_t at = s.key_rows == p.T ? u * width : 0;
    if (u >= keys_loaded) {
      copy_in(s.k + at, k, kBlockRows, p.head_size);
      copy_in(s.v + at, head.v(u), kBlockRows, p.head_size);
    }
    forward_tile(s, s.k + at, s.v + at, first, lanes, u, round_up(k.count, kBlockRows), p.head_size, ahead);
  }
  float* lse = p.lse + (head.b * p.heads + head.h) * p.T + first;
  for (int64_t t = 0; t < out.count; t++) lse[t] = s.maximum[t] + __builtin_logf(s.sum[t]);
  for (int64_t t = 0; t < lanes; t += kLanes) store(s.rescale + t, broadcast(1.0f) / load(s.sum + t));
  transpose_out(out, s.out, p.head_size, s.rescale);
}

// All queries of key/value head `task` (counted over sequences); `next` is the one that this thread may get
// after it.
void forward_head(const AttentionForward& p, int64_t task, int64_t next, const ForwardScratch& s) {
  const int64_t group = p.heads / p.kv_heads, b = task / p.kv_heads, begin = task % p.kv_heads * group;
  for (int64_t h = begin; h < begin + group; h++) {
    const ForwardHead head{p, b, h};
    for (int64_t first = 0; first < p.T; first += kTile) {
      Ahead ahead(p.head_size);
      ahead.add(reading(head.out(first)));
      if (first + kTile < p.T) {
        ahead.add(head.q(first + kTile));
        if (h == begin) head.expect_keys(first + kTile, ahead);
      } else if (h + 1 < begin + group) {
        ahead.add(ForwardHead{p, b, h + 1}.q(0));
      } else if (next < p.B * p.kv_heads) {
        const ForwardHead later{p, next / p.kv_heads, next % p.kv_heads * group};
        ahead.add(later.q(0));
        later.expect_keys(0, ahead);
      }
      forward_queries(head, first, h == begin ? first : p.T, s, ahead);
    }
  }
}

bool by_whole_heads(const AttentionForward& p, const Device& device) {
  return whole_heads_pay(p.B * p.kv_heads, device.threads, 10, 11);
}

int64_t key_rows(const AttentionForward& p, const Device& device) {
  return by_whole_heads(p, device) ? p.T : at_most(p.T, kTile);
}

}  // namespace
}  // namespace attention

size_t attention_forward_workspace_bytes(const AttentionForward& p, const Device& device) {
  using namespace attention;
  return Workspace::bytes_for<float>(ForwardScratch(nullptr, key_rows(p, device), p.head_size).count *
                                     device.threads);
}

void attention_forward(Context& context, const AttentionForward& p) {
  using namespace attention;
  const int64_t rows = key_rows(p, context.device), slice = ForwardScratch(nullptr, rows, p.head_size).count;
  const int64_t threads = context.device.threads;
  Workspace::Scope scope(context.workspace);
  float* workspace = scope.take<float>(slice * threads);
  if (by_whole_heads(p, context.device)) {
    context.pool->parallel_for(p.B * p.kv_heads, 1, [&](int64_t begin, int64_t end, int worker) {
      const ForwardScratch scratch(workspace + worker * slice, rows, p.head_size);
      for (int64_t task = begin; task < end; task++) forward_head(p, task, task + threads, scratch);
    });
    return;
  }
  const int64_t tiles = (p.T + kTile - 1) / kTile;
  context.pool->parallel_for(p.B * p.heads * tiles, 1, [&](int64_t begin, int64_t end, int worker) {
    const ForwardScratch scratch(workspace + worker * slice, rows, p.head_size);
    for (int64_t task = begin; task < end; task++) {
      const int64_t head = task / tiles, tile = tiles - 1 - task % tiles;  // the longest of a head first
      Ahead ahead(p.head_size);
      forward_queries({p, head / p.heads, head % p.heads}, tile * kTile, 0, scratch, ahead);
    }
  });
}

}  // namespace kiln::kernels::cpu::KILN_ISA
