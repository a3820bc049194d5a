// Attention backward. With S = scale Q K^T, P = exp(S - lse), dP = d_out V^T and dS = P * (dP - delta), where
// delta[t] = d_out[t] . out[t]:  d_v = P^T d_out,  d_k = scale dS^T Q,  d_q = scale dS K.
// P and dS are recomputed tile by tile (Dao et al., algorithm 4).
//
// Either a task is a key/value head with its queries and computes all three, or, where those are too few for
// the threads, one set of tasks (tiles of keys) computes d_k and d_v and another (tiles of queries) d_q, with
// P and dS computed twice. Both ways add the same products of tiles in the same order: the results are the
// same bit for bit.
#include "kernels/cpu/attention_tiles.h"

namespace kiln::kernels::cpu::KILN_ISA {

namespace attention {
namespace {

// Per worker.
struct BackwardScratch {
  float* k;        // (key_rows, head_size); key_rows is T for whole heads, else kTile
  float* v;        // (key_rows, head_size)
  float* d_k;      // (key_rows, head_size), without scale
  float* d_v;      // (key_rows, head_size)
  float* q;        // (kTile, head_size)
  float* d_out;    // (kTile, head_size)
  float* q_t;      // (head_size, kTile): Q^T, times scale
  float* d_out_t;  // (head_size, kTile)
  float* d_q_t;    // (head_size, kTile), without scale
  float* p;        // (kTile, kTile): P^T
  float* d_s;      // (kTile, kTile): dP^T, then dS^T
  float* lse;      // (kTile)
  float* delta;    // (kTile)
  float* scale;    // (kTile): the scale of the scores, for each query
  int64_t count;

  BackwardScratch(float* base, int64_t key_rows, int64_t head_size) {
    const int64_t width = padded(head_size), rows = round_up(key_rows, kBlockRows);
    Scratch scratch{base};
    k = scratch.take(rows * width);
    v = scratch.take(rows * width);
    d_k = scratch.take(rows * width);
    d_v = scratch.take(rows * width);
    q = scratch.take(kTile * width);
    d_out = scratch.take(kTile * width);
    q_t = scratch.take(width * kTile);
    d_out_t = scratch.take(width * kTile);
    d_q_t = scratch.take(width * kTile);
    p = scratch.take(kTile * kTile);
    d_s = scratch.take(kTile * kTile);
    lse = scratch.take(kTile);
    delta = scratch.take(kTile);
    scale = scratch.take(kTile);
    count = scratch.used;
  }
};

// The tensors of one head.
struct BackwardHead {
  const AttentionBackward& p;
  int64_t b, h;

  int64_t kv_head() const { return h / (p.heads / p.kv_heads); }
  template <class Float = const float, class Void>
  Rows<Float> query_rows(Void* tensor, int64_t stride, int64_t t) const {
    return tile_of(p, static_cast<Float*>(tensor), stride, b, h, t);
  }
  template <class Float = const float, class Void>
  Rows<Float> key_rows(Void* tensor, int64_t stride, int64_t u) const {
    return tile_of(p, static_cast<Float*>(tensor), stride, b, kv_head(), u);
  }
  Rows<const float> q(int64_t t) const { return query_rows(p.q, p.q_stride, t); }
  Rows<const float> out(int64_t t) const { return query_rows(p.out, p.heads * p.head_size, t); }
  Rows<const float> d_out(int64_t t) const { return query_rows(p.d_out, p.heads * p.head_size, t); }
  Rows<float> d_q(int64_t t) const { return query_rows<float>(p.d_q, p.q_stride, t); }
  Rows<const float> k(int64_t u) const { return key_rows(p.k, p.k_stride, u); }
  Rows<const float> v(int64_t u) const { return key_rows(p.v, p.v_stride, u); }
  Rows<float> d_k(int64_t u) const { return key_rows<float>(p.d_k, p.k_stride, u); }
  Rows<float> d_v(int64_t u) const { return key_rows<float>(p.d_v, p.v_stride, u); }

  // What load_queries and load_keys will read.
  void expect_queries(int64_t t, Ahead& ahead) const {
    ahead.add(q(t));
    ahead.add(out(t));
    ahead.add(d_out(t));
  }
  void expect_keys(int64_t u, Ahead& ahead) const {
    ahead.add(k(u));
    ahead.add(v(u));
  }
};

// A tile of keys, at row `at` of the scratch arrays: in, and their gradients out.
void load_keys(const BackwardHead& head, int64_t u, int64_t at, const BackwardScratch& s) {
  const int64_t head_size = head.p.head_size, begin = at * padded(head_size);
  const Rows<const float> k = head.k(u);
  copy_in(s.k + begin, k, kBlockRows, head_size);
  copy_in(s.v + begin, head.v(u), kBlockRows, head_size);
  set_zero(s.d_k + begin, round_up(k.count, kBlockRows) * padded(head_size));
  set_zero(s.d_v + begin, round_up(k.count, kBlockRows) * padded(head_size));
}

void store_keys(const BackwardHead& head, int64_t u, int64_t at, const BackwardScratch& s) {
  const int64_t head_size = head.p.head_size, begin = at * padded(head_size);
  copy_out(head.d_k(u), s.d_k + begin, head_size, head.p.scale);
  copy_out(head.d_v(u), s.d_v + begin, head_size, 1.0f);
}

float dot(const float* a, const float* b, int64_t n) {
  Vec total = {};
  for (int64_t i = 0; i < n; i += kLanes) total += load_up_to(a + i, n - i) * load_up_to(b + i, n - i);
  return sum(total);
}

// A tile of queries with everything about them; unused lanes of the last vector hold zeros.
void load_queries(const BackwardHead& head, int64_t first, const BackwardScratch& s) {
  const int64_t head_size = head.p.head_size, width = padded(head_size);
  const Rows<const float> q = head.q(first), out = head.out(first);
  const int64_t lanes = round_up(q.count, kLanes);
  copy_in(s.q, q, kLanes, head_size);
  copy_in(s.d_out, head.d_out(first), kLanes, head_size);
  transpose_in(s.q_t, s.q, lanes, head_size, head.p.scale);
  transpose_in(s.d_out_t, s.d_out, lanes, head_size, 1.0f);
  set_zero(s.d_q_t, width * kTile);
  const float* lse = head.p.lse + (head.b * head.p.heads + head.h) * head.p.T + first;
  for (int64_t t = 0; t < lanes; t++) {
    s.lse[t] = t < q.count ? lse[t] : 0.0f;
    s.delta[t] = t < q.count ? dot(s.d_out + t * width, out.first + t * out.stride, head_size) : 0.0f;
    s.scale[t] = head.p.scale;
  }
}

void store_queries(const BackwardHead& head, int64_t first, const BackwardScratch& s) {
  transpose_out(head.d_q(first), s.d_q_t, head.p.head_size, s.scale);
}

// One vector of queries: scores in p become probabilities, dP in d_s becomes dS.
// Lane i sees the keys u <= diagonal + i.
inline void softmax_backward(float* p, float* d_s, int64_t keys, int64_t diagonal, Vec lse, Vec delta) {
  const int64_t visible = at_most(diagonal + 1, keys);  // to every lane
  for (int64_t u = 0; u < visible; u++) {
    const Vec probability = exp(load(p + u * kTile) - lse);
    store(p + u * kTile, probability);
    store(d_s + u * kTile, probability * (load(d_s + u * kTile) - delta));
  }
  for (int64_t u = visible; u < keys; u++) {
    const IntVec seen = sees(diagonal, u);
    const Vec probability = seen ? exp(load(p + u * kTile) - lse) : Vec{};
    store(p + u * kTile, probability);
    store(d_s + u * kTile, seen ? probability * (load(d_s + u * kTile) - delta) : Vec{});
  }
}

// Which gradients a tile is computed for.
struct Wanted {
  bool keys, queries;
};

// P^T and dS^T of kVecs vectors of queries from column t of the tile on against `keys` keys from k and v on,
// of which the first is `offset` keys before the first of these queries; and d_q.
template <int64_t kVecs>
void backward_strip(const BackwardScratch& s, const float* k, const float* v, int64_t t, int64_t keys,
                    int64_t offset, int64_t head_size, Wanted wanted, Ahead& ahead) {
  const int64_t width = padded(head_size);
  float *p = s.p + t, *d_s = s.d_s + t;
  multiply<kVecs, Order::rows, Start::overwrite>(ahead, keys, head_size, k, width, s.q_t + t, kTile, p,
                                                 kTile);
  multiply<kVecs, Order::rows, Start::overwrite>(ahead, keys, head_size, v, width, s.d_out_t + t, kTile, d_s,
                                                 kTile);
  for (int64_t i = 0; i < kVecs * kLanes; i += kLanes) {
    softmax_backward(p + i, d_s + i, keys, offset + i, load(s.lse + t + i), load(s.delta + t + i));
  }
  if (!wanted.queries) return;
  multiply<kVecs, Order::columns, Start::add>(ahead, round_up(head_size, kBlockRows), keys, k, width, d_s,
                                              kTile, s.d_q_t + t, kTile);
}

// d_k or d_v: adds the product of dS^T or P^T with the rows of Q or d_out. The first key is `offset` keys
// before the first query; keys after that see only the queries from their own position on.
void add_key_gradient(float* gradient, const float* weights, const float* rows, int64_t keys, int64_t queries,
                      int64_t offset, int64_t head_size, Ahead& ahead) {
  const int64_t width = padded(head_size);
  for (int64_t d = 0; d < width; d += kStrip) {
    for (int64_t u = 0; u < keys; u += kBlockRows) {
      ahead.step();
      const int64_t t = u < offset ? 0 : u - offset;
      const float *a = weights + u * kTile + t, *b = rows + t * width + d;
      float* c = gradient + u * width + d;
      if (width - d >= kStrip) {
        multiply_block<kBlockVecs, Order::rows, Start::add>(a, kTile, b, width, c, width, queries - t);
      } else {
        for (int64_t i = 0; i < width - d; i += kLanes) {
          multiply_block<1, Order::rows, Start::add>(a, kTile, b + i, width, c + i, width, queries - t);
        }
      }
    }
  }
}

// The loaded tile of queries against the loaded tile of keys from u on, at row `at`.
void backward_tile(const BackwardHead& head, int64_t first, int64_t u, int64_t at, const BackwardScratch& s,
                   Wanted wanted, Ahead& ahead) {
  const int64_t T = head.p.T, head_size = head.p.head_size, begin = at * padded(head_size);
  const int64_t queries = at_most(T - first, kTile), lanes = round_up(queries, kLanes);
  const int64_t keys = round_up(at_most(T - u, kTile), kBlockRows);
  const float *k = s.k + begin, *v = s.v + begin;
  for (int64_t t = 0; t < lanes; t += kStrip) {
    const int64_t offset = first + t - u, columns = at_most(lanes - t, kStrip);
    if (columns == kStrip) {  // its last query sees keys up to itself
      backward_strip<kBlockVecs>(s, k, v, t, at_most(keys, offset + kStrip), offset, head_size, wanted,
                                 ahead);
    } else {
      for (int64_t i = 0; i < columns; i += kLanes) {
        backward_strip<1>(s, k, v, t + i, at_most(keys, offset + i + kLanes), offset + i, head_size, wanted,
                          ahead);
      }
    }
  }
  if (!wanted.keys) return;
  add_key_gradient(s.d_v + begin, s.p, s.d_out, keys, queries, first - u, head_size, ahead);
  add_key_gradient(s.d_k + begin, s.d_s, s.q, keys, queries, first - u, head_size, ahead);
}

// All gradients of key/value head `task` (counted over sequences); `next` is the one that this thread may get
// after it.
void backward_head(const AttentionBackward& p, int64_t task, int64_t next, const BackwardScratch& s) {
  const int64_t group = p.heads / p.kv_heads, b = task / p.kv_heads, begin = task % p.kv_heads * group;
  for (int64_t h = begin; h < begin + group; h++) {
    const BackwardHead head{p, b, h};
    for (int64_t first = 0; first < p.T; first += kTile) {
      Ahead ahead(p.head_size);
      ahead.add(reading(head.d_q(first)));
      if (h + 1 == begin + group) {
        ahead.add(reading(head.d_k(first)));
        ahead.add(reading(head.d_v(first)));
      }
      if (first + kTile < p.T) {
        head.expect_queries(first + kTile, ahead);
        if (h == begin) head.expect_keys(first + kTile, ahead);
      } else if (h + 1 < begin + group) {
        BackwardHead{p, b, h + 1}.expect_queries(0, ahead);
      } else if (next < p.B * p.kv_heads) {
        const BackwardHead later{p, next / p.kv_heads, next % p.kv_heads * group};
        later.expect_queries(0, ahead);
        later.expect_keys(0, ahead);
      }
      load_queries(head, first, s);
      for (int64_t u = 0; u < at_most(first + kTile, p.T); u += kTile) {
        if (h == begin && u >= first) load_keys(head, u, u, s);
        backward_tile(head, first, u, u, s, {.keys = true, .queries = true}, ahead);
      }
      store_queries(head, first, s);
    }
  }
  for (int64_t u = 0; u < p.T; u += kTile) store_keys({p, b, begin}, u, u, s);
}

// d_k and d_v of one tile of keys.
void backward_keys(const AttentionBackward& p, int64_t b, int64_t kv_head, int64_t u,
                   const BackwardScratch& s) {
  const int64_t group = p.heads / p.kv_heads, begin = kv_head * group;
  load_keys({p, b, begin}, u, 0, s);
  for (int64_t h = begin; h < begin + group; h++) {
    const BackwardHead head{p, b, h};
    for (int64_t first = u; first < p.T; first += kTile) {
      Ahead ahead(p.head_size);
      head.expect_queries(first + kTile, ahead);
      load_queries(head, first, s);
      backward_tile(head, first, u, 0, s, {.keys = true, .queries = false}, ahead);
    }
  }
  store_keys({p, b, begin}, u, 0, s);
}

// d_q of one tile of queries.
void backward_queries(const BackwardHead& head, int64_t first, const BackwardScratch& s) {
  load_queries(head, first, s);
  for (int64_t u = 0; u < at_most(first + kTile, head.p.T); u += kTile) {
    Ahead ahead(head.p.head_size);
    if (u < first) head.expect_keys(u + kTile, ahead);
    load_keys(head, u, 0, s);
    backward_tile(head, first, u, 0, s, {.keys = false, .queries = true}, ahead);
  }
  store_queries(head, first, s);
}

// Whole heads cost five products per tile, tiles seven.
bool by_whole_heads(const AttentionBackward& p, const Device& device) {
  return whole_heads_pay(p.B * p.kv_heads, device.threads, 5, 7);
}

int64_t key_rows(const AttentionBackward& p, const Device& device) {
  return by_whole_heads(p, device) ? p.T : at_most(p.T, kTile);
}

}  // namespace
}  // namespace attention

size_t attention_backward_workspace_bytes(const AttentionBackward& p, const Device& device) {
  using namespace attention;
  return Workspace::bytes_for<float>(BackwardScratch(nullptr, key_rows(p, device), p.head_size).count *
                                     device.threads);
}

void attention_backward(Context& context, const AttentionBackward& p) {
  using namespace attention;
  const int64_t rows = key_rows(p, context.device), slice = BackwardScratch(nullptr, rows, p.head_size).count;
  const int64_t threads = context.device.threads;
  Workspace::Scope scope(context.workspace);
  float* workspace = scope.take<float>(slice * threads);
  if (by_whole_heads(p, context.device)) {
    context.pool->parallel_for(p.B * p.kv_heads, 1, [&](int64_t begin, int64_t end, int worker) {
      const BackwardScratch scratch(workspace + worker * slice, rows, p.head_size);
      for (int64_t task = begin; task < end; task++) backward_head(p, task, task + threads, scratch);
    });
    return;
  }
  // The longest of a head first: the first keys are seen by all queries, the last queries see all keys.
  const int64_t tiles = (p.T + kTile - 1) / kTile;
  const int64_t key_tasks = p.B * p.kv_heads * tiles, query_tasks = p.B * p.heads * tiles;
  context.pool->parallel_for(key_tasks + query_tasks, 1, [&](int64_t begin, int64_t end, int worker) {
    const BackwardScratch scratch(workspace + worker * slice, rows, p.head_size);
    for (int64_t task = begin; task < end; task++) {
      if (task < key_tasks) {
        const int64_t head = task / tiles, tile = task % tiles;
        backward_keys(p, head / p.kv_heads, head % p.kv_heads, tile * kTile, scratch);
      } else {
        const int64_t head = (task - key_tasks) / tiles, tile = tiles - 1 - (task - key_tasks) % tiles;
        backward_queries({p, head / p.heads, head % p.heads}, tile * kTile, scratch);
      }
    }
  });
}

}  // namespace kiln::kernels::cpu::KILN_ISA
