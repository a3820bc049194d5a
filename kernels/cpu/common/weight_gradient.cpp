// d_weight += d_out^T in. The packed matmul wants its left factor as it is multiplied, so each tile
// transposes its own columns of d_out into scratch, a chunk of rows at a time; `in`, which all tiles read, is
// packed into panels beforehand. The sum over rows goes chunk by chunk in fixed order.
#include "kernels/cpu/common/weight_gradient.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/common/blas.h"
#include "kernels/cpu/common/libraries.h"
#include "kernels/cpu/common/pack.h"
#include "src/core/shape.h"

namespace kiln::kernels::cpu {
namespace {

constexpr int64_t kChunk = 512;         // rows whose products are summed inside one matmul
constexpr int64_t kRound = 4 * kChunk;  // rows whose panels are in the workspace at once
constexpr int64_t kPackRows = 64;       // rows that one call of the packing loop handles
static_assert(kChunk % kPackRows == 0);

// Rows of d_weight in a tile: high tiles reuse the panels more, but the work must divide among the threads.
int64_t tile_rows(int64_t N) {
  return std::min<int64_t>(N, N >= 768 ? 192 : N >= 256 ? 96 : 64);
}

std::vector<MatmulShape> shapes_of(const LinearBackwardWeight& p) {
  std::vector<MatmulShape> shapes;
  const int64_t tile = tile_rows(p.N);
  for (int64_t rows : {tile, p.N % tile}) {
    for (int64_t chunk : {std::min(kChunk, p.rows), p.rows > kChunk ? p.rows % kChunk : 0}) {
      if (rows == 0 || chunk == 0) continue;
      shapes.push_back({rows, p.K, chunk, false, true});
    }
  }
  return shapes;
}

struct Scratch {
  int64_t library, worker, panels;  // bytes: of one matmul, of one worker, floats: of all panels of a round
};

Scratch scratch_of(const LinearBackwardWeight& p, size_t library_bytes) {
  const int64_t chunk = std::min(kChunk, p.rows);
  const auto library = static_cast<int64_t>(Workspace::bytes_for<char>(static_cast<int64_t>(library_bytes)));
  const auto transposed = static_cast<int64_t>(Workspace::bytes_for<float>(tile_rows(p.N) * chunk));
  return {library, library + transposed, panel_elements(std::min(kRound, p.rows), p.K)};
}

// In sixteen partial sums, always combined in the same order.
float sum(const float* x, int64_t n) {
  constexpr int64_t kPartial = 16;
  float partial[kPartial] = {};
  int64_t i = 0;
  for (; i + kPartial <= n; i += kPartial) {
    for (int64_t j = 0; j < kPartial; j++) partial[j] += x[i + j];
  }
  for (int64_t j = 0; i + j < n; j++) partial[j] += x[i + j];
  for (int64_t width = kPartial / 2; width > 0; width /= 2) {
    for (int64_t j = 0; j < width; j++) partial[j] += partial[j + width];
  }
  return partial[0];
}

// One round: at most kRound rows from `first`.
void add_round(Context& context, const LinearBackwardWeight& p, Matmul* const matmuls[2][2], int64_t first,
               const Scratch& sizes, float* panels, char* scratch) {
  const float* in = static_cast<const float*>(p.in) + first * p.K;
  const float* d_out = static_cast<const float*>(p.d_out) + first * p.ld_out;
  const int64_t rows = std::min(kRound, p.rows - first), tile = tile_rows(p.N);
  const auto chunk_panels = [&](int64_t chunk) { return panels + chunk * round_up(p.K, kPanelColumns); };

  context.pool->parallel_for(rows, kPackRows, [&](int64_t begin, int64_t end, int) {
    const int64_t chunk = begin / kChunk * kChunk, chunk_rows = std::min(kChunk, rows - chunk);
    pack_panels(in + chunk * p.K, p.K, chunk_rows, p.K, begin - chunk, end - chunk, chunk_panels(chunk));
  });
  context.pool->parallel_for(p.N, tile, [&](int64_t begin, int64_t end, int worker) {
    char* mine = scratch + worker * sizes.worker;
    float* transposed = reinterpret_cast<float*>(mine + sizes.library);
    for (int64_t chunk = 0; chunk < rows; chunk += kChunk) {
      const int64_t chunk_rows = std::min(kChunk, rows - chunk);
      transpose(d_out + chunk * p.ld_out + begin, p.ld_out, chunk_rows, end - begin, transposed, chunk_rows);
      if (p.d_bias) {
        for (int64_t n = begin; n < end; n++)
          p.d_bias[n] += sum(transposed + (n - begin) * chunk_rows, chunk_rows);
      }
      Matmul& matmul = *matmuls[end - begin < tile][chunk_rows < std::min(kChunk, p.rows)];
      matmul.run(worker, transposed, chunk_panels(chunk), nullptr, p.d_weight + begin * p.K, mine);
    }
  });
}

// d_bias += sum over rows, each column's in order of the rows.
void add_column_sums(Context& context, const LinearBackwardWeight& p) {
  constexpr int64_t kColumns = 64;
  context.pool->parallel_for(p.N, kColumns, [&](int64_t begin, int64_t end, int) {
    float total[kColumns] = {};
    for (int64_t r = 0; r < p.rows; r++) {
      const float* row = static_cast<const float*>(p.d_out) + r * p.ld_out;
      for (int64_t n = begin; n < end; n++) total[n - begin] += row[n];
    }
    for (int64_t n = begin; n < end; n++) p.d_bias[n] += total[n - begin];
  });
}

}  // namespace

void linear_backward_weight(Context& context, const LinearBackwardWeight& p) {
  require(p.ld_out >= p.N, "linear_backward_weight: shapes do not fit");
  if (p.rows == 0) return;
  CpuLibraries& state = libraries(context);
  if (!has_packed_matmul(context.device)) {
    if (p.d_bias) add_column_sums(context, p);
    return blas_multiply(*context.pool, {.c = p.d_weight,
                                         .a = static_cast<const float*>(p.d_out),
                                         .b = static_cast<const float*>(p.in),
                                         .bias = nullptr,
                                         .M = p.N,
                                         .N = p.K,
                                         .K = p.rows,
                                         .lda = p.ld_out,
                                         .ldb = p.K,
                                         .ldc = p.K,
                                         .a_transposed = true,
                                         .b_transposed = false,
                                         .accumulate = true});
  }
  // [last tile][last chunk]
  Matmul* matmuls[2][2] = {};
  size_t library_bytes = 0;
  for (const MatmulShape& shape : shapes_of(p)) {
    Matmul& m = state.matmul(shape);
    matmuls[shape.M < tile_rows(p.N)][shape.K < std::min(kChunk, p.rows)] = &m;
    library_bytes = std::max(library_bytes, m.scratch_bytes());
  }
  const Scratch sizes = scratch_of(p, library_bytes);
  Workspace::Scope scope(context.workspace);
  float* panels = scope.take<float>(sizes.panels);
  char* scratch = scope.take<char>(sizes.worker * context.device.threads);
  for (int64_t first = 0; first < p.rows; first += kRound) {
    add_round(context, p, matmuls, first, sizes, panels, scratch);
  }
}

size_t linear_backward_weight_workspace_bytes(const LinearBackwardWeight& p, const Device& device) {
  if (!has_packed_matmul(device) || p.rows == 0) return 0;
  size_t library_bytes = 0;
  for (const MatmulShape& shape : shapes_of(p))
    library_bytes = std::max(library_bytes, matmul_scratch_bytes(shape));
  const Scratch sizes = scratch_of(p, library_bytes);
  return Workspace::bytes_for<float>(sizes.panels) +
         Workspace::bytes_for<char>(sizes.worker * device.threads);
}

}  // namespace kiln::kernels::cpu
