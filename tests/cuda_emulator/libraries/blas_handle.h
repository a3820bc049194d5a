// The handle of cuBLAS and what is set in it.
#pragma once

#include <cublas_v2.h>

#include "tests/cuda_emulator/accesses.h"
#include "tests/cuda_emulator/libraries/blas_common.h"

namespace kiln::emulator {

constexpr const char* kBlasHandles = "cuBLAS handles";

struct BlasHandle {
  cudaStream_t stream = nullptr;
  cublasPointerMode_t pointer_mode = CUBLAS_POINTER_MODE_HOST;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
  void* workspace = nullptr;  // the caller's
  size_t workspace_bytes = 0;
  bool workspace_lost = false;  // by cublasSetStream

  bool factors_on_device() const { return pointer_mode == CUBLAS_POINTER_MODE_DEVICE; }
};

// A refusal for null, a finding for what is no handle (any more).
BlasHandle& blas_handle(cublasHandle_t handle);

// As a multiplication uses it: whoever shares the workspace with another stream, or relies on what is in it, finds out.
struct BlasWorkspace {
  explicit BlasWorkspace(const BlasHandle& handle);  // a finding if it was lost
  void use(Accesses& accesses) const;

  uint64_t address;
  size_t bytes;
};

}  // namespace kiln::emulator
