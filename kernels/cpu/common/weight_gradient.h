// linear_backward_weight in fp32.
#pragma once

#include "kernels/linear.h"
#include "src/device/context.h"

namespace kiln::kernels::cpu {

void linear_backward_weight(Context& context, const LinearBackwardWeight& p);
size_t linear_backward_weight_workspace_bytes(const LinearBackwardWeight& p, const Device& device);

}  // namespace kiln::kernels::cpu
