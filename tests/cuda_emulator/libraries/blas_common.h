// What the entry points of cuBLAS and cuBLASLt share.
#pragma once

#include <cublasLt.h>

#include <cstdint>
#include <string>

#include "tests/cuda_emulator/libraries/answers.h"

namespace kiln::emulator {

using BlasRefusal = Refusal<cublasStatus_t>;

template <class Body>
cublasStatus_t blas_answer(const char* api, Body body) {
  return answer(api, CUBLAS_STATUS_SUCCESS, CUBLAS_STATUS_EXECUTION_FAILED, body);
}

inline void refuse_unless(bool fine, cublasStatus_t status, const std::string& reason) {
  if (!fine) throw BlasRefusal{status, reason};
}

inline void invalid_unless(bool fine, const std::string& reason) {
  refuse_unless(fine, CUBLAS_STATUS_INVALID_VALUE, reason);
}

inline uint64_t address_of(const void* pointer) {
  return reinterpret_cast<uint64_t>(pointer);
}

// Bytes of an element of the types that are implemented: fp32 and bf16. A finding for others.
size_t element_bytes(cudaDataType type);
std::string type_name(cudaDataType type);
// OP_N, OP_T; OP_C means the same for real numbers.
bool is_transposed(int operation);

// A finding unless that many bytes of live device memory lie there.
void require_device_pointer(uint64_t address, size_t bytes, size_t alignment, const std::string& operand);

// Without one, libraries cannot be started.
bool has_device();

}  // namespace kiln::emulator
