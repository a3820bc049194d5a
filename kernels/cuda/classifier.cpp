#include "kernels/cuda/classifier.h"

#include "kernels/cuda/kernels.h"

namespace kiln::kernels::cuda {
namespace {

void softmax_cross_entropy(Context& context, const SoftmaxCrossEntropy& p) {
  launch_softmax_cross_entropy(p, stream_of(context));
}

size_t softmax_cross_entropy_workspace_bytes(const SoftmaxCrossEntropy&, const Device&) {
  return 0;
}

}  // namespace

void fill_classifier(KernelTable& table) {
  KILN_CUDA_KERNEL(softmax_cross_entropy)
}

}  // namespace kiln::kernels::cuda
