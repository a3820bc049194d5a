// How products of batches of matrices are cut into tiles: by their shape alone, so that no element is
// computed differently when the number of threads changes.
#pragma once

#include <algorithm>

#include "kernels/matrix.h"
#include "src/core/shape.h"
#include "src/device/context.h"

namespace kiln::kernels::cpu {

struct Tile {
  int64_t matrix, row, column, rows, columns;
  bool mirrored;  // of a symmetric result: the tile below the diagonal also stands above it
  bool diagonal;  // of a symmetric result: only the half below the diagonal counts
};

// Of the tiles of a symmetric result only those on and below the diagonal are listed.
class Tiles {
 public:
  Tiles(const MatrixProduct& p, int64_t rows, int64_t columns)
      : p_(p), rows_(rows), columns_(columns), down_(ceil_div(p.M, rows)), across_(ceil_div(p.N, columns)) {}

  int64_t per_matrix() const { return p_.symmetric ? down_ * (down_ + 1) / 2 : down_ * across_; }
  int64_t size() const { return p_.count * per_matrix(); }

  Tile operator[](int64_t index) const {
    const int64_t matrix = index / per_matrix();
    int64_t i = 0, j = index % per_matrix();
    if (p_.symmetric) {
      while (j > i) j -= ++i;  // row i of tiles has i + 1 of them
    } else {
      i = j % down_;
      j /= down_;
    }
    const int64_t row = i * rows_, column = j * columns_;
    return {matrix,
            row,
            column,
            std::min(rows_, p_.M - row),
            std::min(columns_, p_.N - column),
            p_.symmetric && i > j,
            p_.symmetric && i == j};
  }

 private:
  const MatrixProduct& p_;
  int64_t rows_, columns_, down_, across_;
};

inline int64_t stored_lda(const MatrixProduct& p) {
  return std::max<int64_t>(1, p.lda ? p.lda : p.a_transposed ? p.M : p.K);
}
inline int64_t stored_ldb(const MatrixProduct& p) {
  return std::max<int64_t>(1, p.ldb ? p.ldb : p.b_transposed ? p.K : p.N);
}

// Copies what lies below the diagonal of a tile on the diagonal above it, or a tile below the diagonal to its
// place above.
void mirror(const MatrixProduct& p, const Tile& t);

}  // namespace kiln::kernels::cpu
