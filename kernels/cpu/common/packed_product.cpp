#include "kernels/cpu/common/packed_product.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/common/libraries.h"
#include "kernels/cpu/common/pack.h"
#include "src/core/shape.h"

namespace kiln::kernels::cpu {
namespace {

// How a product is cut into tiles: by its shape alone, so that no element is computed differently when the
// number of threads changes.
struct Tiling {
  int64_t rows, columns;  // of a whole tile; the last ones may be smaller
  bool direct;  // the library writes into `out`; otherwise into scratch, from where the tile is stored
};

// The library writes only contiguous matrices, so a tile of whole rows goes straight into `out`; where those
// would be too few to share out, or rows of `out` lie apart, tiles are cut into column strips as well and
// copied, which costs some 10 %.
constexpr int64_t kEnoughTiles = 8, kStrip = 512;
static_assert(kStrip % kPanelColumns == 0);

Tiling tiling_of(const PackedProduct& p) {
  // High tiles read the panels less often, which pays where those overflow the second-level cache.
  const int64_t rows = std::min<int64_t>(p.rows, p.rows >= 2048 && p.N >= 1024 ? 256 : 128);
  const bool enough = p.N <= kStrip || ceil_div(p.rows, rows) >= kEnoughTiles;
  if (enough && p.ld_out == p.N) return {rows, p.N, true};
  return {std::min<int64_t>(p.rows, 256), std::min(p.N, kStrip), false};
}

// The shapes of whole and last tiles: at most four.
std::vector<MatmulShape> shapes_of(const PackedProduct& p, const Tiling& t, bool has_bias) {
  std::vector<MatmulShape> shapes;
  for (int64_t rows : {t.rows, p.rows % t.rows}) {
    for (int64_t columns : {t.columns, p.N % t.columns}) {
      if (rows == 0 || columns == 0) continue;
      shapes.push_back({rows, columns, p.K, t.direct && has_bias, t.direct && p.accumulate});
    }
  }
  return shapes;
}

int64_t bytes_per_worker(const Tiling& t, size_t library_bytes) {
  const int64_t tile = t.direct ? 0 : t.rows * t.columns;
  return static_cast<int64_t>(Workspace::bytes_for<char>(static_cast<int64_t>(library_bytes)) +
                              Workspace::bytes_for<float>(tile));
}

void store_tile(const PackedProduct& p, int64_t m, int64_t n, int64_t rows, int64_t columns,
                const float* tile) {
  for (int64_t r = 0; r < rows; r++) {
    float* out = p.out + (m + r) * p.ld_out + n;
    const float* from = tile + r * columns;
    if (p.bias) {
      for (int64_t c = 0; c < columns; c++) out[c] = from[c] + p.bias[n + c];
    } else if (p.accumulate) {
      for (int64_t c = 0; c < columns; c++) out[c] += from[c];
    } else {
      std::copy_n(from, columns, out);
    }
  }
}

}  // namespace

void packed_multiply(Context& context, const PackedProduct& p) {
  if (p.rows == 0) return;
  const Tiling t = tiling_of(p);
  // [last row of tiles][last column of tiles]
  Matmul* matmuls[2][2] = {};
  size_t library_bytes = 0;
  for (const MatmulShape& shape : shapes_of(p, t, p.bias != nullptr)) {
    Matmul& m = libraries(context).matmul(shape);
    matmuls[shape.M < t.rows][shape.N < t.columns] = &m;
    library_bytes = std::max(library_bytes, m.scratch_bytes());
  }
  const int64_t per_worker = bytes_per_worker(t, library_bytes);
  Workspace::Scope scope(context.workspace);
  char* scratch = scope.take<char>(per_worker * context.device.threads);

  const int64_t row_tiles = ceil_div(p.rows, t.rows), column_tiles = ceil_div(p.N, t.columns);
  context.pool->parallel_for(row_tiles * column_tiles, 1, [&](int64_t tile, int64_t, int worker) {
    const int64_t m = tile % row_tiles * t.rows, n = tile / row_tiles * t.columns;
    const int64_t rows = std::min(t.rows, p.rows - m), columns = std::min(t.columns, p.N - n);
    Matmul& matmul = *matmuls[rows < t.rows][columns < t.columns];
    char* mine = scratch + worker * per_worker;
    float* result = t.direct ? p.out + m * p.ld_out
                             : reinterpret_cast<float*>(
                                   mine + Workspace::bytes_for<char>(static_cast<int64_t>(library_bytes)));
    matmul.run(worker, p.a + m * p.K, p.panels + n * padded_rows(p.K), p.bias, result, mine);
    if (!t.direct) store_tile(p, m, n, rows, columns, result);
  });
}

size_t packed_multiply_workspace_bytes(const PackedProduct& p, bool has_bias, const Device& device) {
  if (p.rows == 0) return 0;
  const Tiling t = tiling_of(p);
  size_t library_bytes = 0;
  for (const MatmulShape& shape : shapes_of(p, t, has_bias)) {
    library_bytes = std::max(library_bytes, matmul_scratch_bytes(shape));
  }
  return Workspace::bytes_for<char>(bytes_per_worker(t, library_bytes) * device.threads);
}

}  // namespace kiln::kernels::cpu
