// What the CPU's libraries keep between calls.
#pragma once

#include <map>

#include "kernels/cpu/common/matmul.h"
#include "src/device/context.h"

namespace kiln::kernels::cpu {

class CpuLibraries : public LibraryState {
 public:
  explicit CpuLibraries(Context& context);

  // Compiled at the first use of a shape, which must not happen inside parallel_for; later calls may. The
  // reference stays valid.
  Matmul& matmul(const MatmulShape& shape);

 private:
  int workers_;
  std::map<MatmulShape, Matmul> matmuls_;
};

// Those of the context; made at the first call.
CpuLibraries& libraries(Context& context);

}  // namespace kiln::kernels::cpu
