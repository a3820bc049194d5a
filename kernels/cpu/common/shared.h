// CPU kernels that do not depend on the instruction set they are compiled for, because a library dispatches
// inside.
#pragma once

#include "kernels/table.h"

namespace kiln::kernels::cpu {

void fill_shared(KernelTable& table);  // the linear kernels

}  // namespace kiln::kernels::cpu
