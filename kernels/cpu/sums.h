// Sums in fp64 over runs of floats, and how batches of matrices are cut among threads: by shape alone.
#pragma once

#include "kernels/cpu/simd.h"

namespace kiln::kernels::cpu::KILN_ISA {

inline HalfDoubleVec widen(HalfVec v) {
  return __builtin_convertvector(v, HalfDoubleVec);
}

// Sum of x[i]^2 over [begin, end): squares of floats are exact in fp64.
inline double sum_of_squares_in(const float* x, int64_t begin, int64_t end) {
  constexpr int kHalf = kLanes / 2;
  HalfDoubleVec parts[4] = {};
  int64_t i = begin;
  for (; i + 4 * kHalf <= end; i += 4 * kHalf) {
    for (int k = 0; k < 4; k++) {
      const HalfDoubleVec v = widen(load_half(x + i + k * kHalf));
      parts[k] += v * v;
    }
  }
  const HalfDoubleVec folded = (parts[0] + parts[1]) + (parts[2] + parts[3]);
  double total = 0;
  for (int k = 0; k < kHalf; k++) total += folded[k];
  for (; i < end; i++) total += static_cast<double>(x[i]) * x[i];
  return total;
}

// Rows of a matrix that one task works on.
inline int64_t block_rows(int64_t cols) {
  constexpr int64_t kElements = 16 * 1024;
  return cols < kElements ? kElements / (cols > 0 ? cols : 1) : 1;
}
inline int64_t blocks_of(int64_t rows, int64_t cols) {
  return (rows + block_rows(cols) - 1) / block_rows(cols);
}

// body(k, first row, end row, block) for every block of rows of every matrix k < count.
template <class Body>
inline void for_row_blocks(Context& context, int64_t count, int64_t rows, int64_t cols, Body body) {
  const int64_t step = block_rows(cols), blocks = blocks_of(rows, cols);
  context.pool->parallel_for(count * blocks, 1, [&](int64_t i, int64_t, int) {
    const int64_t first = i % blocks * step, end = first + step;
    body(i / blocks, first, end < rows ? end : rows, i % blocks);
  });
}

inline int64_t stride(int64_t ld, int64_t cols) {
  return ld > 0 ? ld : cols;
}

// The floor of a spectrum with this mean (matrix.h), and of the n eigenvalues in l.
inline float floor_of(double mean) {
  const float least = static_cast<float>(kSpectrumFloor * mean);
  return least > 1e-37f ? least : 1e-37f;  // an empty spectrum: no infinity
}
inline float floor_of(const float* l, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += l[i];
  return floor_of(sum / static_cast<double>(n));
}

}  // namespace kiln::kernels::cpu::KILN_ISA
