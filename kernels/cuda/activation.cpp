#include "kernels/cuda/activation.h"

#include "kernels/cuda/kernels.h"

namespace kiln::kernels::cuda {
namespace {

void gelu_forward(Context& context, const GeluForward& p) {
  launch_gelu_forward(p, stream_of(context));
}
void gelu_backward(Context& context, const GeluBackward& p) {
  launch_gelu_backward(p, stream_of(context));
}
void swiglu_forward(Context& context, const SwigluForward& p) {
  launch_swiglu_forward(p, stream_of(context));
}
void swiglu_backward(Context& context, const SwigluBackward& p) {
  launch_swiglu_backward(p, stream_of(context));
}
void residual_forward(Context& context, const ResidualForward& p) {
  launch_residual_forward(p, stream_of(context));
}

size_t gelu_forward_workspace_bytes(const GeluForward&, const Device&) {
  return 0;
}
size_t gelu_backward_workspace_bytes(const GeluBackward&, const Device&) {
  return 0;
}
size_t swiglu_forward_workspace_bytes(const SwigluForward&, const Device&) {
  return 0;
}
size_t swiglu_backward_workspace_bytes(const SwigluBackward&, const Device&) {
  return 0;
}
size_t residual_forward_workspace_bytes(const ResidualForward&, const Device&) {
  return 0;
}

}  // namespace

void fill_activation(KernelTable& table) {
  KILN_CUDA_KERNEL(gelu_forward)
  KILN_CUDA_KERNEL(gelu_backward)
  KILN_CUDA_KERNEL(swiglu_forward)
  KILN_CUDA_KERNEL(swiglu_backward)
  KILN_CUDA_KERNEL(residual_forward)
}

}  // namespace kiln::kernels::cuda
