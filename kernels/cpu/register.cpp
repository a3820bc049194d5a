// Fills the table of one instruction set.
#include "kernels/cpu/kernels.h"

namespace kiln::kernels::cpu::KILN_ISA {

void fill(KernelTable& table);

void fill(KernelTable& table) {
#define KILN_FILL(function)   \
  table.function = &function; \
  table.function##_workspace_bytes = &function##_workspace_bytes;
  KILN_FILL(embedding_forward)
  KILN_FILL(embedding_backward)
  KILN_FILL(layernorm_forward)
  KILN_FILL(layernorm_backward)
  KILN_FILL(rmsnorm_forward)
  KILN_FILL(rmsnorm_backward)
  KILN_FILL(rotary_angles)
  KILN_FILL(rotary)
  KILN_FILL(attention_forward)
  KILN_FILL(attention_backward)
  KILN_FILL(attention_store)
  KILN_FILL(attention_decode)
  KILN_FILL(gelu_forward)
  KILN_FILL(gelu_backward)
  KILN_FILL(swiglu_forward)
  KILN_FILL(swiglu_backward)
  KILN_FILL(residual_forward)
  KILN_FILL(softmax_cross_entropy)
  KILN_FILL(sum_of_squares)
  KILN_FILL(adamw_step)
  KILN_FILL(set_zero)
  KILN_FILL(matrix_combine)
  KILN_FILL(matrix_normalise)
  KILN_FILL(matrix_squares)
  KILN_FILL(matrix_scale)
  KILN_FILL(weight_update)
  KILN_FILL(matrix_fill)
  KILN_FILL(root_start)
  KILN_FILL(identity_distance)
  KILN_FILL(kl_precondition)
  KILN_FILL(kl_eigenvalues)
  KILN_FILL(pro_eigenvalues)
  KILN_FILL(pro_tail_root)
  KILN_FILL(pro_complement_scale)
  KILN_FILL(pro_rotate)
  KILN_FILL(pro_tail)
#undef KILN_FILL
}

}  // namespace kiln::kernels::cpu::KILN_ISA
