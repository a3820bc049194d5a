#include "kernels/cuda/norm.h"

#include "kernels/cuda/kernels.h"

namespace kiln::kernels::cuda {
namespace {

void refuse_wide_rows(const char* kernel, int64_t C) {
  if (C <= kMostNormColumns) return;
  throw Error(
      ExitCode::device,
      fmt::format("{} on cuda takes rows of at most {} elements, not {}", kernel, kMostNormColumns, C),
      "lower model.width, or set device.kind to cpu");
}

void layernorm_forward(Context& context, const LayerNormForward& p) {
  launch_norm_forward(p, stream_of(context));
}
void rmsnorm_forward(Context& context, const RmsNormForward& p) {
  launch_norm_forward(p, stream_of(context));
}

size_t layernorm_forward_workspace_bytes(const LayerNormForward&, const Device&) {
  return 0;
}
size_t rmsnorm_forward_workspace_bytes(const RmsNormForward&, const Device&) {
  return 0;
}

int64_t shares(const LayerNormBackward& p) {
  return norm_chunks(p.rows) * 2 * p.C;
}
int64_t shares(const RmsNormBackward& p) {
  return norm_chunks(p.rows) * p.C;
}

size_t layernorm_backward_workspace_bytes(const LayerNormBackward& p, const Device&) {
  refuse_wide_rows("layernorm_backward", p.C);
  return Workspace::bytes_for<float>(shares(p));
}
size_t rmsnorm_backward_workspace_bytes(const RmsNormBackward& p, const Device&) {
  refuse_wide_rows("rmsnorm_backward", p.C);
  return Workspace::bytes_for<float>(shares(p));
}

void layernorm_backward(Context& context, const LayerNormBackward& p) {
  refuse_wide_rows("layernorm_backward", p.C);
  Workspace::Scope scope(context.workspace);
  launch_norm_backward(p, scope.take<float>(shares(p)), stream_of(context));
}
void rmsnorm_backward(Context& context, const RmsNormBackward& p) {
  refuse_wide_rows("rmsnorm_backward", p.C);
  Workspace::Scope scope(context.workspace);
  launch_norm_backward(p, scope.take<float>(shares(p)), stream_of(context));
}

}  // namespace

void fill_norm(KernelTable& table) {
  KILN_CUDA_KERNEL(layernorm_forward)
  KILN_CUDA_KERNEL(layernorm_backward)
  KILN_CUDA_KERNEL(rmsnorm_forward)
  KILN_CUDA_KERNEL(rmsnorm_backward)
}

}  // namespace kiln::kernels::cuda
