// What the entry points of cuSOLVER share: handles, statuses, workspaces, the outputs that say what went wrong.
#pragma once

#include <cusolverDn.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/cuda_emulator/libraries/blas_common.h"
#include "tests/cuda_emulator/libraries/dense.h"

namespace kiln::emulator {

using SolverRefusal = Refusal<cusolverStatus_t>;

template <class Body>
cusolverStatus_t solver_answer(const char* api, Body body) {
  return answer(api, CUSOLVER_STATUS_SUCCESS, CUSOLVER_STATUS_EXECUTION_FAILED, body);
}

inline void solver_invalid_unless(bool fine, const std::string& reason) {
  if (!fine) throw SolverRefusal{CUSOLVER_STATUS_INVALID_VALUE, reason};
}

// The stream of the handle; a refusal for null, a finding for what is no handle (any more).
cudaStream_t solver_stream(cusolverDnHandle_t handle);
void check_params(cusolverDnParams_t params);

// Bytes of an element where all types are fp32, or all are fp64; what else the library offers is a finding.
size_t solver_element(cudaDataType matrix, cudaDataType vector, cudaDataType compute);
Part triangle_of(cublasFillMode_t fill);
// A matrix of at least one element.
void check_solver_matrix(const void* a, int64_t rows, int64_t columns, int64_t lda, int64_t count,
                         size_t element);

struct SolverWorkspace {
  void* device = nullptr;
  size_t device_bytes = 0;
  void* host = nullptr;
  size_t host_bytes = 0;
};
// Refuses what is less than `needed`; fills the host's part with NaN.
void check_workspace(const SolverWorkspace& given, size_t needed_on_device, size_t needed_on_host);
// The host's part is never nothing, so that callers must provide it.
constexpr size_t kHostWorkspace = 512;

void check_info(const int* info, int64_t count);
void store_info(Accesses& accesses, const int* info, const std::vector<int>& values);

}  // namespace kiln::emulator
