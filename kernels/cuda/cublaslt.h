// Matrix products by cuBLASLt: all calls of it are in cublaslt.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/core/dtype.h"
#include "src/device/context.h"

namespace kiln::kernels::cuda {

// out = a b + bias, or out += a b; all row-major, a (M, K) and b (K, N) after transposition. Factors are multiplied as
// they are (fp32 is not rounded to TF32), sums are fp32.
struct LtProduct {
  void* out;              // (M, N) of out_dtype
  const void* a;          // a_transposed: stored as (K, M)
  const void* b;          // b_transposed: stored as (N, K)
  const void* bias;       // (N) of out_dtype, on 16 bytes; or null
  int64_t M, N, K;        // none 0
  int64_t lda, ldb, ldo;  // elements between stored rows
  bool a_transposed, b_transposed;
  bool accumulate;         // excludes a bias
  DType dtype, out_dtype;  // of the factors; of out
};

// What one product may take from Context::workspace: a fixed bound, which cuBLASLt's choice of an algorithm is held to.
size_t lt_workspace_bytes();

// In the context's stream. The algorithm for a shape is the library's first choice among those that give the same bits
// each time, asked for once and kept in Context::libraries. It does not depend on where planned buffers lie: a shape has
// one.
void multiply(Context& context, const LtProduct& p);

// How many shapes are kept at most. A model has some twenty; a caller with ever new ones (rows of all lengths, say) has
// them all forgotten when one more comes, and asked for again.
inline constexpr size_t kMostLtProducts = 256;
size_t kept_lt_products(const Context& context);

// Makes the descriptors of such a product, which the library checks without any GPU, and destroys them.
void check_descriptions(const LtProduct& p);

}  // namespace kiln::kernels::cuda
