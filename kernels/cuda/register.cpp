#include "kernels/cuda/register.h"

#include "kernels/cuda/kernels.h"

namespace kiln::kernels::cuda {

// Every kernel there is takes fp32 and bf16.
void fill(KernelTable& table, DType) {
  fill_norm(table);
  fill_activation(table);
  fill_classifier(table);
  fill_linear(table);
}

}  // namespace kiln::kernels::cuda
