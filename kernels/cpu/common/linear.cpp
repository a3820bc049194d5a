// The linear kernels in fp32. Where oneDNN has a fast kernel for panels (pack.h), weights are packed once per
// version; elsewhere, and for arguments it does not take, OpenBLAS reads the weight as it is. Results depend
// on shapes, on the instruction set and on which of the two paths is taken, never on the number of threads.
#include "kernels/linear.h"

#include <algorithm>

#include "kernels/cpu/common/blas.h"
#include "kernels/cpu/common/libraries.h"
#include "kernels/cpu/common/pack.h"
#include "kernels/cpu/common/packed_product.h"
#include "kernels/cpu/common/shared.h"
#include "kernels/cpu/common/weight_gradient.h"
#include "src/core/shape.h"

namespace kiln::kernels {
namespace cpu {
namespace {

size_t panel_bytes(int64_t K, int64_t N) {
  return Workspace::bytes_for<float>(panel_elements(K, N));
}

bool is_packed(const Context& context, const PackedWeight& w) {
  return w.storage != nullptr && has_packed_matmul(context.device);
}

// W^T (K, N) in panels.
const float* forward_panels(Context& context, PackedWeight& w) {
  float* panels = static_cast<float*>(w.storage);
  if (w.forward_version != *w.version) {
    context.pool->parallel_for(ceil_div(w.N, kPanelColumns), 1, [&](int64_t i, int64_t, int) {
      pack_transposed_panel(static_cast<const float*>(w.weight), w.K, w.N, i * kPanelColumns, panels);
    });
    w.forward_version = *w.version;
  }
  return panels;
}

// W (N, K) in panels, behind the forward form.
const float* backward_panels(Context& context, PackedWeight& w) {
  float* panels = reinterpret_cast<float*>(static_cast<char*>(w.storage) + panel_bytes(w.K, w.N));
  if (w.backward_version != *w.version) {
    context.pool->parallel_for(w.N, kPanelColumns, [&](int64_t begin, int64_t end, int) {
      pack_panels(static_cast<const float*>(w.weight), w.K, w.N, w.K, begin, end, panels);
    });
    w.backward_version = *w.version;
  }
  return panels;
}

PackedProduct product_of(const LinearForward& p) {
  return {static_cast<float*>(p.out),
          static_cast<const float*>(p.in),
          nullptr,
          static_cast<const float*>(p.bias),
          p.rows,
          p.N,
          p.K,
          p.ld_out,
          false};
}
PackedProduct product_of(const LinearBackwardInput& p) {
  return {static_cast<float*>(p.d_in),
          static_cast<const float*>(p.d_out),
          nullptr,
          nullptr,
          p.rows,
          p.K,
          p.N,
          p.K,
          p.accumulate};
}

void linear_forward(Context& context, const LinearForward& p) {
  require(p.weight->N == p.N && p.weight->K == p.K && p.ld_out >= p.N, "linear_forward: shapes do not fit");
  if (!is_packed(context, *p.weight)) {
    libraries(context);
    return blas_multiply(*context.pool, {.c = static_cast<float*>(p.out),
                                         .a = static_cast<const float*>(p.in),
                                         .b = static_cast<const float*>(p.weight->weight),
                                         .bias = static_cast<const float*>(p.bias),
                                         .M = p.rows,
                                         .N = p.N,
                                         .K = p.K,
                                         .lda = p.K,
                                         .ldb = p.K,
                                         .ldc = p.ld_out,
                                         .a_transposed = false,
                                         .b_transposed = true,
                                         .accumulate = false});
  }
  PackedProduct product = product_of(p);
  product.panels = forward_panels(context, *p.weight);
  packed_multiply(context, product);
}

// Without a bias the primitive needs no more scratch; asking with one covers both.
size_t linear_forward_workspace_bytes(const LinearForward& p, const Device& device) {
  if (!has_packed_matmul(device)) return 0;
  return std::max(packed_multiply_workspace_bytes(product_of(p), true, device),
                  packed_multiply_workspace_bytes(product_of(p), false, device));
}

void linear_backward_input(Context& context, const LinearBackwardInput& p) {
  require(p.weight->N == p.N && p.weight->K == p.K && p.ld_out >= p.N,
          "linear_backward_input: shapes do not fit");
  if (!is_packed(context, *p.weight) || p.ld_out != p.N) {
    libraries(context);
    return blas_multiply(*context.pool, {.c = static_cast<float*>(p.d_in),
                                         .a = static_cast<const float*>(p.d_out),
                                         .b = static_cast<const float*>(p.weight->weight),
                                         .bias = nullptr,
                                         .M = p.rows,
                                         .N = p.K,
                                         .K = p.N,
                                         .lda = p.ld_out,
                                         .ldb = p.K,
                                         .ldc = p.K,
                                         .a_transposed = false,
                                         .b_transposed = false,
                                         .accumulate = p.accumulate});
  }
  PackedProduct product = product_of(p);
  product.panels = backward_panels(context, *p.weight);
  packed_multiply(context, product);
}

size_t linear_backward_input_workspace_bytes(const LinearBackwardInput& p, const Device& device) {
  if (!has_packed_matmul(device) || p.ld_out != p.N) return 0;
  return packed_multiply_workspace_bytes(product_of(p), false, device);
}

}  // namespace

void fill_shared(KernelTable& table) {
  table.linear_forward = &linear_forward;
  table.linear_forward_workspace_bytes = &linear_forward_workspace_bytes;
  table.linear_backward_input = &linear_backward_input;
  table.linear_backward_input_workspace_bytes = &linear_backward_input_workspace_bytes;
  table.linear_backward_weight = &linear_backward_weight;
  table.linear_backward_weight_workspace_bytes = &linear_backward_weight_workspace_bytes;
  fill_matrix(table);
}

}  // namespace cpu

size_t packed_weight_bytes(int64_t N, int64_t K, DType dtype, const Device& device, bool backward) {
  if (device.kind != DeviceKind::cpu || dtype != DType::f32 || !cpu::has_packed_matmul(device)) return 0;
  return cpu::panel_bytes(K, N) + (backward ? cpu::panel_bytes(N, K) : 0);
}

}  // namespace kiln::kernels
