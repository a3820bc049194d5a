#include "src/device/cuda_check.h"

#include "src/core/error.h"

namespace kiln {
namespace {

const char* advice(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return "lower train.micro_batch, or see what else uses the GPU's memory (nvidia-smi)";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      return "this kiln was built for other GPUs or a newer driver: update the driver, or build kiln on this "
             "machine";
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
      return "set device.kind to cpu, or install NVIDIA's driver";
    default:
      return "compute-sanitizer shows which kernel is at fault; dmesg shows whether the GPU has failed";
  }
}

}  // namespace

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // so that the next call does not report this error again
  throw Error(ExitCode::device,
              fmt::format("{}: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error)),
              advice(error));
}

void check_grid(int64_t x, int64_t y, const char* what) {
  constexpr int64_t kMostX = INT32_MAX, kMostY = UINT16_MAX;  // on every GPU since compute capability 3.0
  if (x <= kMostX && y <= kMostY) return;
  throw Error(
      ExitCode::device,
      fmt::format("{} would take {} x {} blocks at once; CUDA takes {} x {}", what, x, y, kMostX, kMostY),
      "lower train.micro_batch");
}

}  // namespace kiln
