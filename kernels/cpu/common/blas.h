// OpenBLAS, single-threaded inside the tiles of parallel_for: for machines and arguments that the packed
// matmul does not serve, and for the optimizers.
#pragma once

#include <cstdint>

#include "src/core/parallel.h"

namespace kiln::kernels::cpu {

// Tells OpenBLAS to use one thread per call. OpenBLAS keeps a buffer for each call that runs at the same time
// and maps them when first needed: here all threads of the pool multiply at once, so that no buffer is left to
// be mapped during a run.
void prepare_blas(ThreadPool& pool);

// c = a b + bias, or c += a b, where a is (M, K) and b is (K, N) after transposition: a_transposed says that
// `a` is stored as (K, M), b_transposed that `b` is stored as (N, K).
struct BlasProduct {
  float* c;           // (M, N), rows ldc apart
  const float* a;     // rows lda apart
  const float* b;     // rows ldb apart
  const float* bias;  // (N), or null
  int64_t M, N, K;
  int64_t lda, ldb, ldc;
  bool a_transposed, b_transposed, accumulate;
};
void blas_multiply(ThreadPool& pool, const BlasProduct& p);

}  // namespace kiln::kernels::cpu
