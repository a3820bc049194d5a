// Products of batches of matrices whose factors are rounded to bf16: oneDNN's AMX kernels on tiles. Both
// factors are converted and packed once per call, in chunks of K small enough for two factors of a tile to
// stay in the second-level cache; sums over chunks and the result are fp32.
//
// Left factor, chunk by chunk: row-major (M, chunk). Right factor, chunk by chunk: panels of 64 columns, in a
// panel pairs of rows, the two numbers of a pair beside each other: element (k, n) of a chunk lies at (n /
// 64) * 64 * chunk + (k / 2) * 128 + (n % 64) * 2 + k % 2. oneDNN calls it BA16a64b2a. Chunks are padded with
// zeros to a multiple of 32, columns to a multiple of 64.
#include "kernels/cpu/common/libraries.h"
#include "kernels/cpu/common/matrix_product.h"
#include "kernels/cpu/common/pack.h"
#include "kernels/cpu/common/shared.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <vector>

#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 finds it inside its own masked conversions

namespace kiln::kernels::cpu {
namespace {

#define KILN_BF16_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))

constexpr int64_t kChunk = 1024, kPair = 2, kBlock = 32, kTile = 256;
constexpr int64_t kWordsInBlock = kBlock / kPair;
static_assert(kTile % kPanelColumns == 0);

struct Chunk {
  int64_t first, columns, padded;  // of K
};
int64_t chunks_of(const MatrixProduct& p) {
  return ceil_div(p.K, kChunk);
}
Chunk chunk_of(const MatrixProduct& p, int64_t index) {
  const int64_t first = index * kChunk, columns = std::min(kChunk, p.K - first);
  return {first, columns, round_up(columns, kBlock)};
}
int64_t left_elements(const MatrixProduct& p) {  // of one matrix
  return round_up(p.M * round_up(p.K, kBlock), 64);
}
int64_t right_elements(const MatrixProduct& p) {
  return round_up(p.K, kBlock) * round_up(p.N, kPanelColumns);
}

// out[i] = x[i] rounded to bf16 for i < n, zero up to `padded`, a multiple of 16.
KILN_BF16_TARGET void convert(const float* x, uint16_t* out, int64_t n, int64_t padded) {
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const __m512bh pair = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + i + 16), _mm512_loadu_ps(x + i));
    _mm512_storeu_si512(out + i, reinterpret_cast<__m512i>(pair));
  }
  for (; i < padded; i += 16) {
    const int64_t left = std::clamp<int64_t>(n - i, 0, 16);
    const auto mask = static_cast<__mmask16>((1u << left) - 1);
    const __m256bh half = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, x + i));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), reinterpret_cast<__m256i>(half));
  }
}

// out[i] = the pair (even[i], odd[i]) for i < n <= 64, zero up to 64. odd null: zeros.
KILN_BF16_TARGET void interleave(const float* even, const float* odd, uint32_t* out, int64_t n) {
  for (int64_t i = 0; i < kPanelColumns; i += 16) {
    const int64_t left = std::clamp<int64_t>(n - i, 0, 16);
    const auto mask = static_cast<__mmask16>((1u << left) - 1);
    const auto words = [&](const float* x) KILN_BF16_TARGET {
      const __m512 values = x ? _mm512_maskz_loadu_ps(mask, x + i) : _mm512_setzero_ps();
      return _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)));
    };
    _mm512_storeu_si512(out + i, _mm512_or_si512(words(even), _mm512_slli_epi32(words(odd), 16)));
  }
}

void pack_left(const MatrixProduct& p, const float* a, int64_t begin, int64_t end, uint16_t* out) {
  const int64_t lda = stored_lda(p);
  for (int64_t c = 0; c < chunks_of(p); c++) {
    const Chunk chunk = chunk_of(p, c);
    uint16_t* base = out + p.M * chunk.first;
    for (int64_t i = begin; i < end; i++) {
      convert(a + i * lda + chunk.first, base + i * chunk.padded, chunk.columns, chunk.padded);
    }
  }
}

// One panel of all chunks: columns [n, n + 64).
void pack_right(const MatrixProduct& p, const float* b, int64_t n, uint16_t* out) {
  const int64_t ldb = stored_ldb(p), columns = std::min(kPanelColumns, p.N - n);
  for (int64_t c = 0; c < chunks_of(p); c++) {
    const Chunk chunk = chunk_of(p, c);
    auto* panel =
        reinterpret_cast<uint32_t*>(out + round_up(p.N, kPanelColumns) * chunk.first + n * chunk.padded);
    if (p.b_transposed) {
      // Rows of b are columns here: 64 of them by 32, converted, then transposed pair by pair.
      alignas(64) uint16_t square[kPanelColumns * kBlock];
      for (int64_t k = 0; k < chunk.padded; k += kBlock) {
        for (int64_t i = 0; i < kPanelColumns; i++) {
          const int64_t count = i < columns ? std::min(kBlock, chunk.columns - k) : 0;
          convert(b + (n + (i < columns ? i : 0)) * ldb + chunk.first + k, square + i * kBlock, count,
                  kBlock);
        }
        transpose(reinterpret_cast<const float*>(square), kWordsInBlock, kPanelColumns, kWordsInBlock,
                  reinterpret_cast<float*>(panel + k / kPair * kPanelColumns), kPanelColumns);
      }
    } else {
      const float* rows = b + chunk.first * ldb + n;
      for (int64_t k = 0; k < chunk.padded; k += kPair) {
        const float* even = k < chunk.columns ? rows + k * ldb : nullptr;
        const float* odd = k + 1 < chunk.columns ? rows + (k + 1) * ldb : nullptr;
        interleave(even, odd, panel + k / kPair * kPanelColumns, columns);
      }
    }
  }
}

// out = alpha tile + beta add, row by row
KILN_BF16_TARGET void store_row(float* out, const float* tile, const float* add, float alpha, float beta,
                                int64_t n) {
  const __m512 factor = _mm512_set1_ps(alpha), other = _mm512_set1_ps(beta);
  for (int64_t i = 0; i < n; i += 16) {
    const auto mask = static_cast<__mmask16>(n - i >= 16 ? 0xFFFFu : (1u << (n - i)) - 1);
    __m512 value = _mm512_mul_ps(factor, _mm512_maskz_loadu_ps(mask, tile + i));
    if (add) value = _mm512_fmadd_ps(other, _mm512_maskz_loadu_ps(mask, add + i), value);
    _mm512_mask_storeu_ps(out + i, mask, value);
  }
}

// Every shape that a tile's product over a chunk can have.
std::vector<MatmulShape> shapes_of(const MatrixProduct& p) {
  std::vector<MatmulShape> shapes;
  for (int64_t rows : {std::min(kTile, p.M), p.M > kTile ? p.M % kTile : 0}) {
    for (int64_t columns : {std::min(kTile, p.N), p.N > kTile ? p.N % kTile : 0}) {
      for (int64_t c : {int64_t{0}, chunks_of(p) - 1}) {
        if (rows == 0 || columns == 0) continue;
        for (const bool accumulate : {false, true}) {
          if (accumulate && chunks_of(p) == 1) continue;
          shapes.push_back({rows, columns, chunk_of(p, c).padded, false, accumulate, DType::bf16});
        }
      }
    }
  }
  return shapes;
}

void check(const MatrixProduct& p) {
  require(!p.symmetric || p.M == p.N, "matrix_product: a symmetric product is square");
  require(!p.a_transposed, "matrix_product: a transposed left factor is not implemented in bf16");
}

struct Scratch {
  int64_t left, right, library, worker;  // bytes, of the whole batch and of one worker
};
Scratch scratch_of(const MatrixProduct& p, size_t library_bytes) {
  const auto library = static_cast<int64_t>(Workspace::bytes_for<char>(static_cast<int64_t>(library_bytes)));
  return {static_cast<int64_t>(Workspace::bytes_for<uint16_t>(p.count * left_elements(p))),
          static_cast<int64_t>(Workspace::bytes_for<uint16_t>(p.count * right_elements(p))), library,
          library + static_cast<int64_t>(Workspace::bytes_for<float>(kTile * kTile))};
}

void matrix_product_bf16(Context& context, const MatrixProduct& p) {
  check(p);
  if (p.M == 0 || p.N == 0 || p.K == 0) {
    MatrixProduct rest = p;
    rest.dtype = DType::f32;
    return kernels::matrix_product(context, rest);
  }
  CpuLibraries& state = libraries(context);
  size_t library_bytes = 0;
  for (const MatmulShape& shape : shapes_of(p)) {
    library_bytes = std::max(library_bytes, state.matmul(shape).scratch_bytes());
  }
  const Scratch sizes = scratch_of(p, library_bytes);
  Workspace::Scope scope(context.workspace);
  auto* left = scope.take<uint16_t>(p.count * left_elements(p));
  auto* right = scope.take<uint16_t>(p.count * right_elements(p));
  char* scratch = scope.take<char>(sizes.worker * context.device.threads);

  constexpr int64_t kPackRows = 64;
  const int64_t row_blocks = ceil_div(p.M, kPackRows), panels = ceil_div(p.N, kPanelColumns);
  context.pool->parallel_for(p.count * (row_blocks + panels), 1, [&](int64_t i, int64_t, int) {
    const int64_t k = i / (row_blocks + panels), part = i % (row_blocks + panels);
    if (part < row_blocks) {
      const int64_t begin = part * kPackRows;
      pack_left(p, p.a[k], begin, std::min(begin + kPackRows, p.M), left + k * left_elements(p));
    } else {
      pack_right(p, p.b[k], (part - row_blocks) * kPanelColumns, right + k * right_elements(p));
    }
  });

  const Tiles tiles(p, kTile, kTile);
  const float alpha = static_cast<float>(p.alpha), beta = static_cast<float>(p.beta);
  context.pool->parallel_for(tiles.size(), 1, [&](int64_t i, int64_t, int worker) {
    const Tile t = tiles[i];
    char* mine = scratch + worker * sizes.worker;
    auto* sum = reinterpret_cast<float*>(mine + sizes.library);
    for (int64_t c = 0; c < chunks_of(p); c++) {
      const Chunk chunk = chunk_of(p, c);
      const uint16_t* a = left + t.matrix * left_elements(p) + p.M * chunk.first + t.row * chunk.padded;
      const uint16_t* b = right + t.matrix * right_elements(p) + round_up(p.N, kPanelColumns) * chunk.first +
                          t.column * chunk.padded;
      state.matmul({t.rows, t.columns, chunk.padded, false, c > 0, DType::bf16})
          .run(worker, a, b, nullptr, sum, mine);
    }
    const int64_t at = t.row * p.N + t.column;
    for (int64_t r = 0; r < t.rows; r++) {
      store_row(p.out[t.matrix] + at + r * p.N, sum + r * t.columns,
                p.add ? p.add[t.matrix] + at + r * p.N : nullptr, alpha, beta, t.columns);
    }
    mirror(p, t);
  });
}

size_t matrix_product_bf16_workspace_bytes(const MatrixProduct& p, const Device& device) {
  if (p.M == 0 || p.N == 0 || p.K == 0) return 0;
  size_t library_bytes = 0;
  for (const MatmulShape& shape : shapes_of(p)) {
    library_bytes = std::max(library_bytes, matmul_scratch_bytes(shape));
  }
  const Scratch sizes = scratch_of(p, library_bytes);
  return static_cast<size_t>(sizes.left + sizes.right) +
         Workspace::bytes_for<char>(sizes.worker * device.threads);
}

}  // namespace

void fill_bf16(KernelTable& table) {
  table.matrix_product = &matrix_product_bf16;
  table.matrix_product_workspace_bytes = &matrix_product_bf16_workspace_bytes;
}

}  // namespace kiln::kernels::cpu

#else

namespace kiln::kernels::cpu {

void fill_bf16(KernelTable&) {}

}  // namespace kiln::kernels::cpu

#endif
