#include "kernels/cpu/common/libraries.h"

#include <memory>

#include "kernels/cpu/common/blas.h"
#include "src/core/error.h"

namespace kiln::kernels::cpu {

CpuLibraries::CpuLibraries(Context& context) : workers_(context.pool->size()) {
  prepare_blas(*context.pool);
  if (has_packed_bf16_matmul(context.device)) prepare_amx();
}

Matmul& CpuLibraries::matmul(const MatmulShape& shape) {
  return matmuls_.try_emplace(shape, shape, workers_).first->second;
}

CpuLibraries& libraries(Context& context) {
  if (!context.libraries) context.libraries = std::make_unique<CpuLibraries>(context);
  auto* cpu = dynamic_cast<CpuLibraries*>(context.libraries.get());
  require(cpu != nullptr, "a CPU kernel was called with the libraries of another backend");
  return *cpu;
}

}  // namespace kiln::kernels::cpu
