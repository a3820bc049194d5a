// Fills the table of one instruction set.
#include "kernels/cpu/kernels.h"

namespace kiln::kernels::cpu::KILN_ISA {

void fill(KernelTable& table);

void fill(KernelTable& table) {
#define KILN_FILL(function)       \
  table.function = &function;     \
  table.function##_workspace_bytes = &function##_workspace_bytes;
  KILN_FILL(embedding_forward)
  KILN_FILL(embedding_backward)
  KILN_FILL(layernorm_forward)
  KILN_FILL(layernorm_backward)
  KILN_FILL(attention_forward)
  KILN_FILL(attention_backward)
  KILN_FILL(gelu_forward)
  KILN_FILL(gelu_backward)
  KILN_FILL(residual_forward)
  KILN_FILL(softmax_cross_entropy)
  KILN_FILL(sum_of_squares)
  KILN_FILL(adamw_step)
  KILN_FILL(set_zero)
#undef KILN_FILL
}

}  // namespace kiln::kernels::cpu::KILN_ISA
