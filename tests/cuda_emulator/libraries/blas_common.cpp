#include "tests/cuda_emulator/libraries/blas_common.h"

#include <cuda_runtime_api.h>

#include "tests/cuda_emulator/accesses.h"

namespace kiln::emulator {

size_t element_bytes(cudaDataType type) {
  if (type == CUDA_R_32F) return 4;
  if (type == CUDA_R_16BF) return 2;
  not_implemented(type_name(type));
}

std::string type_name(cudaDataType type) {
  switch (type) {
    case CUDA_R_32F:
      return "CUDA_R_32F";
    case CUDA_R_16BF:
      return "CUDA_R_16BF";
    case CUDA_R_16F:
      return "CUDA_R_16F";
    case CUDA_R_64F:
      return "CUDA_R_64F";
    default:
      return fmt::format("cudaDataType {}", static_cast<int>(type));
  }
}

bool is_transposed(int operation) {
  if (operation != CUBLAS_OP_N && operation != CUBLAS_OP_T && operation != CUBLAS_OP_C)
    throw Finding(fmt::format("cublasOperation_t {} does not exist", operation));
  return operation != CUBLAS_OP_N;
}

void require_device_pointer(uint64_t address, size_t bytes, size_t alignment, const std::string& operand) {
  if (!DeviceMemory::instance().is_device(address)) {
    throw Finding(
        fmt::format("{} is no device pointer: {}", operand, DeviceMemory::instance().describe(address)));
  }
  if (address % alignment != 0) {
    throw Finding(fmt::format("{} is not aligned to {} bytes: {}", operand, alignment,
                              DeviceMemory::instance().describe(address)));
  }
  allocation_of(address, bytes, operand);
}

bool has_device() {
  int count = 0;
  const bool found = cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
  if (!found) cudaGetLastError();
  return found;
}

}  // namespace kiln::emulator
