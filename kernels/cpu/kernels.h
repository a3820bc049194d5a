// Declares every hand-written CPU kernel once more inside the namespace of the instruction set that is being compiled
// (KILN_ISA, set by the build). Files in this folder may use no inline function of the standard library that the
// linker could share with another variant: a test looks at their symbols.
#pragma once

#include "kernels/table.h"

#ifndef KILN_ISA
#error "KILN_ISA names the instruction set: compile through kiln_kernels() in cmake/rooms.cmake"
#endif

namespace kiln::kernels::cpu::KILN_ISA {

#define KILN_DECLARE(function, Params)              \
  void function(Context& context, const Params& p); \
  size_t function##_workspace_bytes(const Params& p, const Device& device);
KILN_KERNELS(KILN_DECLARE)
#undef KILN_DECLARE

}  // namespace kiln::kernels::cpu::KILN_ISA
