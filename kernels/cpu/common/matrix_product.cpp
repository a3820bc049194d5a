// Products of batches of matrices in fp32: OpenBLAS on tiles, one thread each.
#include "kernels/cpu/common/matrix_product.h"

#include <cblas.h>

#include <algorithm>

#include "kernels/cpu/common/factorise.h"
#include "kernels/cpu/common/libraries.h"
#include "kernels/cpu/common/matmul.h"
#include "kernels/cpu/common/pack.h"
#include "kernels/cpu/common/shared.h"

namespace kiln::kernels {
namespace cpu {
namespace {

// Large tiles pack their factors less often; small symmetric results still skip half.
int64_t tile_rows(const MatrixProduct& p) {
  return p.symmetric && p.M < 512 ? 128 : 256;
}
int64_t tile_columns(const MatrixProduct& p) {
  return p.symmetric ? tile_rows(p) : 512;
}

// a a^T, or a^T a
bool is_gram(const MatrixProduct& p) {
  return p.symmetric && p.a == p.b && p.a_transposed != p.b_transposed && stored_lda(p) == stored_ldb(p);
}

CBLAS_TRANSPOSE transposition(bool transposed) {
  return transposed ? CblasTrans : CblasNoTrans;
}

void multiply_tile(const MatrixProduct& p, const Tile& t) {
  float* out = p.out[t.matrix] + t.row * p.N + t.column;
  const float* add = p.add ? p.add[t.matrix] + t.row * p.N + t.column : nullptr;
  if (add && add != out) {
    for (int64_t i = 0; i < t.rows; i++) std::copy_n(add + i * p.N, t.columns, out + i * p.N);
  }
  const int64_t lda = stored_lda(p), ldb = stored_ldb(p);
  const float* a = p.a[t.matrix] + (p.a_transposed ? t.row : t.row * lda);
  const float* b = p.b[t.matrix] + (p.b_transposed ? t.column * ldb : t.column);
  const float alpha = static_cast<float>(p.alpha), beta = add ? static_cast<float>(p.beta) : 0.0f;
  const int rows = static_cast<int>(t.rows), columns = static_cast<int>(t.columns), K = static_cast<int>(p.K);
  if (t.diagonal && is_gram(p)) {
    cblas_ssyrk(CblasRowMajor, CblasLower, transposition(p.a_transposed), rows, K, alpha, a,
                static_cast<int>(lda), beta, out, static_cast<int>(p.N));
  } else {
    cblas_sgemm(CblasRowMajor, transposition(p.a_transposed), transposition(p.b_transposed), rows, columns, K,
                alpha, a, static_cast<int>(lda), b, static_cast<int>(ldb), beta, out, static_cast<int>(p.N));
  }
  mirror(p, t);
}

void matrix_product(Context& context, const MatrixProduct& p) {
  require(!p.symmetric || p.M == p.N, "matrix_product: a symmetric product is square");
  if (p.M == 0 || p.N == 0) return;
  libraries(context);
  const Tiles tiles(p, tile_rows(p), tile_columns(p));
  context.pool->parallel_for(tiles.size(), 1, [&](int64_t i, int64_t, int) { multiply_tile(p, tiles[i]); });
}

size_t matrix_product_workspace_bytes(const MatrixProduct&, const Device&) {
  return 0;
}

}  // namespace

void mirror(const MatrixProduct& p, const Tile& t) {
  float* out = p.out[t.matrix];
  if (t.mirrored) {
    transpose(out + t.row * p.N + t.column, p.N, t.rows, t.columns, out + t.column * p.N + t.row, p.N);
  } else if (t.diagonal) {
    for (int64_t i = t.row; i < t.row + t.rows; i++) {
      for (int64_t j = t.column; j < i; j++) out[j * p.N + i] = out[i * p.N + j];
    }
  }
}

void fill_matrix(KernelTable& table) {
  table.matrix_product = &matrix_product;
  table.matrix_product_workspace_bytes = &matrix_product_workspace_bytes;
  table.matrix_qr = &matrix_qr;
  table.matrix_qr_workspace_bytes = &matrix_qr_workspace_bytes;
  table.matrix_orthonormalise = &matrix_orthonormalise;
  table.matrix_orthonormalise_workspace_bytes = &matrix_orthonormalise_workspace_bytes;
  table.matrix_eigen = &matrix_eigen;
  table.matrix_eigen_workspace_bytes = &matrix_eigen_workspace_bytes;
  table.seed_bases = &seed_bases;
  table.seed_bases_workspace_bytes = &seed_bases_workspace_bytes;
}

}  // namespace cpu

bool has_bf16_products(const Device& device) {
  return device.kind == DeviceKind::cpu && cpu::has_packed_bf16_matmul(device);
}

}  // namespace kiln::kernels
