// Statistics start with the first gradient of a matrix that is not zero.
#pragma once

#include "optim/slices.h"

namespace kiln::optim {

// Where the matrices of a batch stand before a step.
struct Seeding {
  bool* seeded;     // [matrix]: its statistics exist; null in a dry run
  double* squares;  // [matrix]: of those that are not seeded, the gradient's squared Frobenius norm
  bool ready(int64_t k) const { return seeded[k]; }
  bool starts(int64_t k) const { return !seeded[k] && squares[k] > 0; }
};

// `factor`: the state that holds a statistic (n x n) with a positive trace once there is one.
Seeding find_seeded(Context& context, Scratch& scratch, const MatrixBatch& batch, size_t factor, int64_t n);

}  // namespace kiln::optim
