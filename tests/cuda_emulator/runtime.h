// What the entry points of the CUDA runtime share.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "tests/cuda_emulator/findings.h"
#include "tests/cuda_emulator/streams.h"

namespace kiln::emulator {

// Becomes the last error, unless it is success; returned for convenience.
cudaError_t set_error(cudaError_t error);

// cudaSuccess, or what every call answers on a machine without a device or a driver (KILN_EMULATOR_DEVICES).
cudaError_t device_error();

// Runs `body`, which may execute kernels; on a machine with a device. Findings are reported; where one was, that is the call's result.
template <class Body>
cudaError_t guarded(Body body) {
  if (const cudaError_t error = device_error(); error != cudaSuccess) return set_error(error);
  const size_t before = findings_so_far();
  try {
    body();
  } catch (const Finding& finding) {
    report(finding.what());
    return set_error(cudaErrorInvalidValue);
  }
  return set_error(findings_so_far() == before ? cudaSuccess : cudaErrorLaunchFailure);
}

// What `leaks` tells at the end of the process ("\n  2 cuBLAS handles", empty: nothing) is reported with the other leaks.
void report_leaks_of(std::string (*leaks)());

// The stream behind a handle; a Finding if there is none.
Stream* stream_of(cudaStream_t handle);

}  // namespace kiln::emulator
