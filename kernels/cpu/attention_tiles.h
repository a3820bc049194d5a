// What the two attention kernels are made of: a register-blocked product of small matrices in scratch memory,
// and the copies and transpositions that bring heads in and out of it.
//
// Vector lanes are queries. Scores are computed transposed, S^T[u][t] = K[u] . Q[t]: the row maximum and the
// row sum of the softmax then go down vectors instead of across lanes, K and V enter products as broadcast
// scalars straight from their rows, and Q and d_out are transposed once per query tile.
#pragma once

#include "kernels/cpu/simd.h"

namespace kiln::kernels::cpu::KILN_ISA::attention {

// A register block is kBlockRows x kBlockVecs vectors of accumulators: with one broadcast and kBlockVecs
// loaded vectors it fits the register file, and there are enough independent sums to hide the latency of an
// addition.
#if defined(__AVX512F__)
inline constexpr int64_t kBlockRows = 8, kBlockVecs = 2;
#else
inline constexpr int64_t kBlockRows = 4, kBlockVecs = 2;
#endif
inline constexpr int64_t kStrip = kBlockVecs * kLanes;  // queries that one row of register blocks covers
inline constexpr int64_t kTile = 64;  // queries, and keys, per tile; 128 measured slower, 32 no faster
static_assert(kLanes % kBlockRows == 0 && kTile % kStrip == 0);

constexpr int64_t round_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}
constexpr int64_t at_most(int64_t n, int64_t limit) {
  return n < limit ? n : limit;
}

// Row length of scratch copies of heads.
constexpr int64_t padded(int64_t head_size) {
  return round_up(head_size, kLanes);
}

// Hands out pieces of one worker's scratch memory; with a null base it only counts.
struct Scratch {
  float* base;
  int64_t used = 0;
  float* take(int64_t count) {
    float* piece = base ? base + used : nullptr;
    used += round_up(count, 32);  // each begins on the 128 bytes of the workspace
    return piece;
  }
};

// `count` rows of one head of one sequence in a tensor of tokens.
template <class Float>
struct Rows {
  Float* first;
  int64_t stride;  // elements between tokens
  int64_t count;
};

inline Rows<const float> reading(Rows<float> rows) {
  return {rows.first, rows.stride, rows.count};
}

// The tile of tokens from t on, as far as there are.
template <class Float, class Params>
inline Rows<Float> tile_of(const Params& p, Float* tensor, int64_t stride, int64_t b, int64_t head,
                           int64_t t) {
  return {tensor + (b * p.T + t) * stride + head * p.head_size, stride, at_most(p.T - t, kTile)};
}

// Rows that will be wanted soon, fetched a few at a time between register blocks. The rows of a head lie far
// apart, so that no hardware prefetcher sees them coming, and loads that wait for them, or prefetches all at
// once, would keep the arithmetic waiting.
class Ahead {
 public:
  explicit Ahead(int64_t head_size) : head_size_(head_size) {}
  void add(Rows<const float> rows) {
    if (rows.count > 0) ranges_[ranges_count_++] = rows;
  }
  void step() {
    for (int64_t n = 0; n < kRowsPerStep; n++) {
      if (current_ == ranges_count_) return;
      Rows<const float>& rows = ranges_[current_];
      for (int64_t i = 0; i < head_size_; i += kFloatsPerLine) __builtin_prefetch(rows.first + i);
      rows.first += rows.stride;
      if (--rows.count == 0) current_++;
    }
  }

 private:
  static constexpr int64_t kRowsPerStep = 4, kFloatsPerLine = 16;
  Rows<const float> ranges_[8];  // the backward pass adds that many
  int current_ = 0, ranges_count_ = 0;
  int64_t head_size_;
};

// How a product treats what is in C already.
enum class Start { overwrite, add, rescale };

// How A is stored: row m at a + m * lda, or column k at a + k * lda.
enum class Order { rows, columns };

// C[m][v] = (C before, by kStart) + sum over k of A(m, k) * B[k][v], for kBlockRows rows m and kVecs vectors
// v. Start::rescale multiplies C before by factor[v].
template <int64_t kVecs, Order kOrder, Start kStart>
inline void multiply_block(const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc,
                           int64_t k, const float* factor = nullptr) {
  Vec sums[kBlockRows][kVecs];
#pragma GCC unroll 8
  for (int64_t m = 0; m < kBlockRows; m++) {
#pragma GCC unroll 8
    for (int64_t v = 0; v < kVecs; v++) {
      if constexpr (kStart == Start::overwrite) sums[m][v] = Vec{};
      if constexpr (kStart == Start::add) sums[m][v] = load(c + m * ldc + v * kLanes);
      if constexpr (kStart == Start::rescale) {
        sums[m][v] = load(c + m * ldc + v * kLanes) * load(factor + v * kLanes);
      }
    }
  }
  for (int64_t i = 0; i < k; i++) {
    Vec row[kVecs];
#pragma GCC unroll 8
    for (int64_t v = 0; v < kVecs; v++) row[v] = load(b + i * ldb + v * kLanes);
#pragma GCC unroll 8
    for (int64_t m = 0; m < kBlockRows; m++) {
      const Vec x = broadcast(kOrder == Order::rows ? a[m * lda + i] : a[i * lda + m]);
#pragma GCC unroll 8
      for (int64_t v = 0; v < kVecs; v++) sums[m][v] += x * row[v];
    }
  }
#pragma GCC unroll 8
  for (int64_t m = 0; m < kBlockRows; m++) {
#pragma GCC unroll 8
    for (int64_t v = 0; v < kVecs; v++) store(c + m * ldc + v * kLanes, sums[m][v]);
  }
}

// The same for any number of rows (a multiple of kBlockRows; C and A have that many).
template <int64_t kVecs, Order kOrder, Start kStart>
inline void multiply(Ahead& ahead, int64_t rows, int64_t k, const float* a, int64_t lda, const float* b,
                     int64_t ldb, float* c, int64_t ldc, const float* factor = nullptr) {
  for (int64_t m = 0; m < rows; m += kBlockRows) {
    ahead.step();
    multiply_block<kVecs, kOrder, kStart>(a + (kOrder == Order::rows ? m * lda : m), lda, b, ldb, c + m * ldc,
                                          ldc, k, factor);
  }
}

inline Vec load_up_to(const float* p, int64_t n) {
  return n >= kLanes ? load(p) : load_partial(p, n);
}
inline void store_up_to(float* p, Vec v, int64_t n) {
  if (n >= kLanes) {
    store(p, v);
  } else {
    store_partial(p, v, n);
  }
}

inline void set_zero(float* out, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) store(out + i, Vec{});  // n is a multiple of kLanes
}

// A contiguous copy of rows, padded with zeros to padded(head_size) columns and a multiple of row_multiple
// rows.
inline void copy_in(float* out, Rows<const float> in, int64_t row_multiple, int64_t head_size) {
  const int64_t width = padded(head_size);
  for (int64_t r = 0; r < in.count; r++) {
    for (int64_t i = 0; i < width; i += kLanes) {
      store(out + r * width + i, load_up_to(in.first + r * in.stride + i, head_size - i));
    }
  }
  set_zero(out + in.count * width, (round_up(in.count, row_multiple) - in.count) * width);
}

// The way back, times factor.
inline void copy_out(Rows<float> out, const float* in, int64_t head_size, float factor) {
  const int64_t width = padded(head_size);
  for (int64_t r = 0; r < out.count; r++) {
    for (int64_t i = 0; i < head_size; i += kLanes) {
      store_up_to(out.first + r * out.stride + i, load(in + r * width + i) * broadcast(factor),
                  head_size - i);
    }
  }
}

template <int... kLane>
struct LaneList {};
template <int kCount, int... kLane>
struct MakeLanes : MakeLanes<kCount - 1, kCount - 1, kLane...> {};
template <int... kLane>
struct MakeLanes<0, kLane...> {
  using List = LaneList<kLane...>;
};
using AllLanes = MakeLanes<kLanes>::List;

// One step of the transposition of a kLanes x kLanes block: swaps the off-diagonal quarters of every 2 kStep
// x 2 kStep block on the diagonal.
template <int kStep, int... kLane>
inline void swap_quarters(Vec (&rows)[kLanes], LaneList<kLane...>) {
#pragma GCC unroll 16
  for (int r = 0; r < kLanes; r++) {
    if (r & kStep) continue;
    const Vec upper = rows[r], lower = rows[r + kStep];
    rows[r] = __builtin_shufflevector(upper, lower, ((kLane & kStep) ? kLanes + kLane - kStep : kLane)...);
    rows[r + kStep] =
        __builtin_shufflevector(upper, lower, ((kLane & kStep) ? kLanes + kLane : kLane + kStep)...);
  }
}

inline void transpose_block(Vec (&rows)[kLanes]) {
  if constexpr (kLanes > 8) swap_quarters<8>(rows, AllLanes{});
  if constexpr (kLanes > 4) swap_quarters<4>(rows, AllLanes{});
  swap_quarters<2>(rows, AllLanes{});
  swap_quarters<1>(rows, AllLanes{});
}

// out[d * kTile + t] = factor * in[t * padded(head_size) + d] for all d and for t < count, a multiple of
// kLanes.
inline void transpose_in(float* out, const float* in, int64_t count, int64_t head_size, float factor) {
  const int64_t width = padded(head_size);
  for (int64_t t = 0; t < count; t += kLanes) {
    for (int64_t d = 0; d < width; d += kLanes) {
      Vec block[kLanes];
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; r++) block[r] = load(in + (t + r) * width + d) * broadcast(factor);
      transpose_block(block);
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; r++) store(out + (d + r) * kTile + t, block[r]);
    }
  }
}

// out[t][d] = factor[t] * in[d * kTile + t].
inline void transpose_out(Rows<float> out, const float* in, int64_t head_size, const float* factor) {
  for (int64_t t = 0; t < out.count; t += kLanes) {
    const Vec scale = load(factor + t);
    for (int64_t d = 0; d < head_size; d += kLanes) {
      Vec block[kLanes];
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; r++) block[r] = load(in + (d + r) * kTile + t) * scale;
      transpose_block(block);
      const int64_t rows = at_most(out.count - t, kLanes);
      for (int64_t r = 0; r < rows; r++) {
        store_up_to(out.first + (t + r) * out.stride + d, block[r], head_size - d);
      }
    }
  }
}

template <int... kLane>
inline IntVec lane_numbers(LaneList<kLane...>) {
  return IntVec{kLane...};
}

// The causal mask: all bits set where lane i of a vector of queries sees key u, that is u <= diagonal + i.
inline IntVec sees(int64_t diagonal, int64_t u) {
  return lane_numbers(AllLanes{}) >= static_cast<int32_t>(u - diagonal) - IntVec{};
}

// Whether to hand out whole heads rather than tiles: that is less work (the costs say how much), but may
// leave threads idle in the last round.
inline bool whole_heads_pay(int64_t heads, int64_t threads, int64_t whole_cost, int64_t tiles_cost) {
  return whole_cost * round_up(heads, threads) <= tiles_cost * heads;
}

}  // namespace kiln::kernels::cpu::KILN_ISA::attention
