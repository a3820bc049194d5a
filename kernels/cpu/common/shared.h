// CPU kernels that do not depend on the instruction set they are compiled for, because a library dispatches
// inside.
#pragma once

#include "kernels/table.h"

namespace kiln::kernels::cpu {

void fill_shared(KernelTable& table);  // fp32: the linear kernels, matrix products, factorisations

void fill_matrix(KernelTable& table);  // the latter two; fill_shared calls it

// Matrix products of bf16 factors; whether they are any use is has_bf16_products' to say.
void fill_bf16(KernelTable& table);

}  // namespace kiln::kernels::cpu
