#include "kernels/cpu/common/pack.h"

#include <algorithm>
#include <cstring>

#include "src/core/shape.h"

namespace kiln::kernels::cpu {
namespace {

typedef float Vec4 __attribute__((vector_size(16)));
typedef float UnalignedVec4 __attribute__((vector_size(16), aligned(4), may_alias));

Vec4 load(const float* p) {
  return *reinterpret_cast<const UnalignedVec4*>(p);
}
void store(float* p, Vec4 v) {
  *reinterpret_cast<UnalignedVec4*>(p) = v;
}

void transpose_4x4(const float* in, int64_t ld_in, float* out, int64_t ld_out) {
  const Vec4 a = load(in), b = load(in + ld_in), c = load(in + 2 * ld_in), d = load(in + 3 * ld_in);
  const Vec4 ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5),
             ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Vec4 cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5),
             cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  store(out, __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5));
  store(out + ld_out, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7));
  store(out + 2 * ld_out, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
  store(out + 3 * ld_out, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
}

constexpr int64_t kBlock = 16;

void transpose_block(const float* in, int64_t ld_in, float* out, int64_t ld_out) {
  for (int64_t c = 0; c < kBlock; c += 4) {
    for (int64_t r = 0; r < kBlock; r += 4)
      transpose_4x4(in + r * ld_in + c, ld_in, out + c * ld_out + r, ld_out);
  }
}

}  // namespace

int64_t padded_rows(int64_t K) {
  return round_up(K, kPanelRowMultiple);
}
int64_t panel_elements(int64_t K, int64_t N) {
  return padded_rows(K) * round_up(N, kPanelColumns);
}

void pack_panels(const float* matrix, int64_t ld, int64_t K, int64_t N, int64_t k_begin, int64_t k_end,
                 float* panels) {
  const int64_t panel = padded_rows(K) * kPanelColumns;
  const int64_t whole = N / kPanelColumns * kPanelColumns;
  for (int64_t k = k_begin; k < k_end; k++) {
    const float* row = matrix + k * ld;
    float* to = panels + k * kPanelColumns;
    for (int64_t n = 0; n < whole; n += kPanelColumns, to += panel) {
      std::memcpy(to, row + n, kPanelColumns * sizeof(float));
    }
    if (whole == N) continue;
    std::copy(row + whole, row + N, to);
    std::fill(to + (N - whole), to + kPanelColumns, 0.0f);
  }
  if (k_end < K) return;
  for (int64_t n = 0; n < N; n += kPanelColumns) {
    float* base = panels + n / kPanelColumns * panel;
    std::fill(base + K * kPanelColumns, base + panel, 0.0f);
  }
}

void pack_transposed_panel(const float* matrix, int64_t K, int64_t N, int64_t n_begin, float* panels) {
  float* panel = panels + n_begin * padded_rows(K);
  const int64_t columns = std::min(kPanelColumns, N - n_begin);
  transpose(matrix + n_begin * K, K, columns, K, panel, kPanelColumns);
  if (columns < kPanelColumns) {
    for (int64_t k = 0; k < K; k++)
      std::fill(panel + k * kPanelColumns + columns, panel + (k + 1) * kPanelColumns, 0.0f);
  }
  std::fill(panel + K * kPanelColumns, panel + padded_rows(K) * kPanelColumns, 0.0f);
}

// In blocks of 16 x 16: every cache line that is read or written is used up at once. The rows of the next
// block are fetched meanwhile, for processors do not foresee so many strided streams.
void transpose(const float* in, int64_t ld_in, int64_t rows, int64_t columns, float* out, int64_t ld_out) {
  const int64_t whole_rows = rows / kBlock * kBlock, whole_columns = columns / kBlock * kBlock;
  for (int64_t r = 0; r < whole_rows; r += kBlock) {
    const int64_t ahead = r + kBlock < whole_rows ? kBlock : 0;
    for (int64_t c = 0; c < whole_columns; c += kBlock) {
      for (int64_t i = 0; i < kBlock; i++) __builtin_prefetch(in + (r + i + ahead) * ld_in + c);
      transpose_block(in + r * ld_in + c, ld_in, out + c * ld_out + r, ld_out);
    }
  }
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t c = r < whole_rows ? whole_columns : 0; c < columns; c++)
      out[c * ld_out + r] = in[r * ld_in + c];
  }
}

}  // namespace kiln::kernels::cpu
