#include "tests/cuda_emulator/libraries/solver_common.h"

#include <cstring>

#include "tests/cuda_emulator/libraries/objects.h"
#include "tests/cuda_emulator/runtime.h"

namespace kiln::emulator {

namespace {

constexpr const char* kSolverHandles = "cuSOLVER handles";
constexpr const char* kSolverParams = "cuSOLVER parameters";

struct SolverHandle {
  cudaStream_t stream = nullptr;
};

}  // namespace

cudaStream_t solver_stream(cusolverDnHandle_t handle) {
  if (handle == nullptr) throw SolverRefusal{CUSOLVER_STATUS_NOT_INITIALIZED, "the handle is null"};
  require_object(handle, kSolverHandles);
  return reinterpret_cast<SolverHandle*>(handle)->stream;
}

void check_params(cusolverDnParams_t params) {
  if (params == nullptr) throw Finding("the parameters are null: cusolverDnCreateParams makes some");
  require_object(params, kSolverParams);
}

size_t solver_element(cudaDataType matrix, cudaDataType vector, cudaDataType compute) {
  if (matrix != vector || matrix != compute || (matrix != CUDA_R_32F && matrix != CUDA_R_64F)) {
    not_implemented(fmt::format("a matrix of {}, a vector of {}, computed in {}", type_name(matrix),
                                type_name(vector), type_name(compute)));
  }
  return matrix == CUDA_R_32F ? sizeof(float) : sizeof(double);
}

Part triangle_of(cublasFillMode_t fill) {
  solver_invalid_unless(fill == CUBLAS_FILL_MODE_LOWER || fill == CUBLAS_FILL_MODE_UPPER,
                        fmt::format("cublasFillMode_t {}", static_cast<int>(fill)));
  return fill == CUBLAS_FILL_MODE_LOWER ? Part::kLower : Part::kUpper;
}

void check_solver_matrix(const void* a, int64_t rows, int64_t columns, int64_t lda, int64_t count,
                         size_t element) {
  solver_invalid_unless(rows >= 0 && columns >= 0 && count >= 0,
                        fmt::format("a matrix of {} x {}, batch {}", rows, columns, count));
  if (rows == 0 || columns == 0 || count == 0) throw Finding("a matrix without elements, or an empty batch");
  solver_invalid_unless(lda >= rows, fmt::format("lda is {}, it should be at least {}", lda, rows));
  const size_t between = static_cast<size_t>(lda * columns) * element;
  require_device_pointer(
      address_of(a), static_cast<size_t>(count - 1) * between + DenseShape{rows, columns, lda}.bytes(element),
      element, "A");
}

void check_workspace(const SolverWorkspace& given, size_t needed_on_device, size_t needed_on_host) {
  solver_invalid_unless(given.device_bytes >= needed_on_device,
                        fmt::format("a workspace of {} bytes on the device; {} are needed",
                                    given.device_bytes, needed_on_device));
  require_device_pointer(address_of(given.device), given.device_bytes, 16, "the workspace");
  solver_invalid_unless(
      given.host_bytes >= needed_on_host,
      fmt::format("a workspace of {} bytes on the host; {} are needed", given.host_bytes, needed_on_host));
  if (needed_on_host == 0) return;
  if (given.host == nullptr || DeviceMemory::instance().is_device(address_of(given.host)))
    throw Finding("the host's workspace is no host pointer");
  std::memset(given.host, 0xff, needed_on_host);
}

void check_info(const int* info, int64_t count) {
  require_device_pointer(address_of(info), static_cast<size_t>(count) * sizeof(int), sizeof(int), "info");
}

void store_info(Accesses& accesses, const int* info, const std::vector<int>& values) {
  const size_t bytes = values.size() * sizeof(int);
  std::memcpy(accesses.write(address_of(info), bytes, "info"), values.data(), bytes);
}

}  // namespace kiln::emulator

using namespace kiln::emulator;

extern "C" {

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t* handle) {
  return solver_answer("cusolverDnCreate", [&] {
    solver_invalid_unless(handle != nullptr, "nowhere to put the handle");
    if (!has_device()) throw SolverRefusal{CUSOLVER_STATUS_NOT_INITIALIZED, "no CUDA device"};
    *handle = reinterpret_cast<cusolverDnHandle_t>(make_object<SolverHandle>(kSolverHandles));
  });
}

cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle) {
  return solver_answer("cusolverDnDestroy", [&] {
    solver_stream(handle);
    Streams::instance().wait_for_all();
    remove_object(handle, kSolverHandles);
  });
}

cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream) {
  return solver_answer("cusolverDnSetStream", [&] {
    solver_stream(handle);
    stream_of(stream);
    reinterpret_cast<SolverHandle*>(handle)->stream = stream;
  });
}

cusolverStatus_t cusolverDnGetStream(cusolverDnHandle_t handle, cudaStream_t* stream) {
  return solver_answer("cusolverDnGetStream", [&] { *stream = solver_stream(handle); });
}

cusolverStatus_t cusolverDnCreateParams(cusolverDnParams_t* params) {
  return solver_answer("cusolverDnCreateParams", [&] {
    solver_invalid_unless(params != nullptr, "nowhere to put the parameters");
    *params = reinterpret_cast<cusolverDnParams_t>(make_object<int>(kSolverParams));
  });
}

cusolverStatus_t cusolverDnDestroyParams(cusolverDnParams_t params) {
  return solver_answer("cusolverDnDestroyParams", [&] { remove_object(params, kSolverParams); });
}

}  // extern "C"
