// The linear kernels: products by cuBLASLt, which reads weights as they are, and sums over rows of our own. cuBLASLt can
// sum rows up while it multiplies (its epilogue BGRADB), but overwrites what gradients are to be added to.
#include "kernels/linear.h"

#include <algorithm>

#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/kernels.h"

namespace kiln::kernels::cuda {
namespace {

void linear_forward(Context& context, const LinearForward& p) {
  require(p.weight->N == p.N && p.weight->K == p.K && p.ld_out >= p.N, "linear_forward: shapes do not fit");
  if (p.rows == 0) return;
  multiply(context, {.out = p.out,
                     .a = p.in,
                     .b = p.weight->weight,
                     .bias = p.bias,
                     .M = p.rows,
                     .N = p.N,
                     .K = p.K,
                     .lda = p.K,
                     .ldb = p.K,
                     .ldo = p.ld_out,
                     .a_transposed = false,
                     .b_transposed = true,
                     .accumulate = false,
                     .dtype = p.dtype,
                     .out_dtype = p.dtype});
}

void linear_backward_input(Context& context, const LinearBackwardInput& p) {
  require(p.weight->N == p.N && p.weight->K == p.K && p.ld_out >= p.N,
          "linear_backward_input: shapes do not fit");
  if (p.rows == 0) return;
  multiply(context, {.out = p.d_in,
                     .a = p.d_out,
                     .b = p.weight->weight,
                     .bias = nullptr,
                     .M = p.rows,
                     .N = p.K,
                     .K = p.N,
                     .lda = p.ld_out,
                     .ldb = p.K,
                     .ldo = p.K,
                     .a_transposed = false,
                     .b_transposed = false,
                     .accumulate = p.accumulate,
                     .dtype = p.dtype,
                     .out_dtype = p.dtype});
}

void linear_backward_weight(Context& context, const LinearBackwardWeight& p) {
  require(p.ld_out >= p.N, "linear_backward_weight: shapes do not fit");
  if (p.rows == 0) return;
  multiply(context, {.out = p.d_weight,
                     .a = p.d_out,
                     .b = p.in,
                     .bias = nullptr,
                     .M = p.N,
                     .N = p.K,
                     .K = p.rows,
                     .lda = p.ld_out,
                     .ldb = p.K,
                     .ldo = p.K,
                     .a_transposed = true,
                     .b_transposed = false,
                     .accumulate = true,
                     .dtype = p.dtype,
                     .out_dtype = DType::f32});
  if (!p.d_bias) return;
  Workspace::Scope scope(context.workspace);
  const int64_t chunks = column_chunks(p.rows);
  float* shares = scope.take<float>(chunks * p.N);
  sum_column_chunks(shares, p.d_out, p.rows, p.N, p.ld_out, p.dtype, stream_of(context));
  add_column_sums(p.d_bias, shares, chunks, p.N, p.N, stream_of(context));
}

size_t linear_forward_workspace_bytes(const LinearForward&, const Device&) {
  return lt_workspace_bytes();
}
size_t linear_backward_input_workspace_bytes(const LinearBackwardInput&, const Device&) {
  return lt_workspace_bytes();
}
// The product first, then the sums.
size_t linear_backward_weight_workspace_bytes(const LinearBackwardWeight& p, const Device&) {
  return std::max(lt_workspace_bytes(), Workspace::bytes_for<float>(column_chunks(p.rows) * p.N));
}

}  // namespace

void fill_linear(KernelTable& table) {
  KILN_CUDA_KERNEL(linear_forward)
  KILN_CUDA_KERNEL(linear_backward_input)
  KILN_CUDA_KERNEL(linear_backward_weight)
}

}  // namespace kiln::kernels::cuda
