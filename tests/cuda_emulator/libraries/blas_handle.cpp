#include "tests/cuda_emulator/libraries/blas_handle.h"

#include <algorithm>

#include "tests/cuda_emulator/libraries/matrices.h"
#include "tests/cuda_emulator/libraries/objects.h"
#include "tests/cuda_emulator/runtime.h"

namespace kiln::emulator {

BlasHandle& blas_handle(cublasHandle_t handle) {
  refuse_unless(handle != nullptr, CUBLAS_STATUS_NOT_INITIALIZED, "the handle is null");
  require_object(handle, kBlasHandles);
  return *reinterpret_cast<BlasHandle*>(handle);
}

BlasWorkspace::BlasWorkspace(const BlasHandle& handle)
    : address(address_of(handle.workspace)), bytes(std::min<size_t>(handle.workspace_bytes, 64 << 10)) {
  if (handle.workspace_lost)
    throw Finding(
        "cublasSetStream after cublasSetWorkspace brought the default workspace back: set the stream first");
}

void BlasWorkspace::use(Accesses& accesses) const {
  poison(accesses, address, bytes, "the workspace");
}

}  // namespace kiln::emulator

using namespace kiln::emulator;

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  return blas_answer("cublasCreate", [&] {
    invalid_unless(handle != nullptr, "nowhere to put the handle");
    refuse_unless(has_device(), CUBLAS_STATUS_NOT_INITIALIZED, "no CUDA device");
    *handle = reinterpret_cast<cublasHandle_t>(make_object<BlasHandle>(kBlasHandles));
  });
}

// Waits for the device, as the real one does.
cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  return blas_answer("cublasDestroy", [&] {
    blas_handle(handle);
    Streams::instance().wait_for_all();
    remove_object(handle, kBlasHandles);
  });
}

cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int* version) {
  *version = CUBLAS_VERSION;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  return blas_answer("cublasSetStream", [&] {
    BlasHandle& data = blas_handle(handle);
    stream_of(stream);
    data.workspace_lost = data.workspace_lost || data.workspace_bytes > 0;
    data.workspace = nullptr;
    data.workspace_bytes = 0;
    data.stream = stream;
  });
}

cublasStatus_t cublasGetStream_v2(cublasHandle_t handle, cudaStream_t* stream) {
  return blas_answer("cublasGetStream", [&] { *stream = blas_handle(handle).stream; });
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* workspace, size_t bytes) {
  return blas_answer("cublasSetWorkspace", [&] {
    BlasHandle& data = blas_handle(handle);
    invalid_unless(workspace != nullptr || bytes == 0, "a workspace at null");
    if (bytes > 0) require_device_pointer(address_of(workspace), bytes, 256, "the workspace");
    data.workspace = workspace;
    data.workspace_bytes = bytes;
    data.workspace_lost = false;
  });
}

cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t mode) {
  return blas_answer("cublasSetPointerMode", [&] {
    invalid_unless(mode == CUBLAS_POINTER_MODE_HOST || mode == CUBLAS_POINTER_MODE_DEVICE,
                   fmt::format("pointer mode {}", static_cast<int>(mode)));
    blas_handle(handle).pointer_mode = mode;
  });
}

cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t* mode) {
  return blas_answer("cublasGetPointerMode", [&] { *mode = blas_handle(handle).pointer_mode; });
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  return blas_answer("cublasSetMathMode", [&] {
    const int kind = mode & ~CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
    if (kind != CUBLAS_DEFAULT_MATH && kind != CUBLAS_PEDANTIC_MATH)
      not_implemented(fmt::format("cublasMath_t {}", static_cast<int>(mode)));
    blas_handle(handle).math = mode;
  });
}

cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t* mode) {
  return blas_answer("cublasGetMathMode", [&] { *mode = blas_handle(handle).math; });
}

}  // extern "C"
