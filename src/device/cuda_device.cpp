// Which GPUs there are, and why there are none.
#include <cuda_runtime_api.h>

#include "src/core/error.h"
#include "src/device/cuda.h"
#include "src/device/cuda_check.h"
#include "src/device/plan.h"

namespace kiln {
namespace {

constexpr const char* kUseCpu = "set device.kind to cpu";

std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

int driver_version() {  // 0: there is none
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

struct Found {
  int devices = 0;
  cudaError_t error = cudaSuccess;
};

Found find() {
  Found found;  // without a driver, cudaGetDeviceCount leaves its output as it was
  found.error = cudaGetDeviceCount(&found.devices);
  if (found.error != cudaSuccess) {
    cudaGetLastError();
    found.devices = 0;
  }
  return found;
}

CudaObstacle obstacle(const Found& found) {
  if (found.devices > 0) return {};
  if (found.error == cudaErrorInsufficientDriver) {
    const int driver = driver_version();
    if (driver == 0) {
      return {"no CUDA driver on this machine", fmt::format("install NVIDIA's driver, or {}", kUseCpu)};
    }
    return {fmt::format("the CUDA driver of this machine ({}) is older than kiln's CUDA ({})",
                        version_text(driver), version_text(CUDART_VERSION)),
            fmt::format("update NVIDIA's driver, or {}", kUseCpu)};
  }
  if (found.error == cudaSuccess || found.error == cudaErrorNoDevice) {
    return {"no CUDA device on this machine",
            fmt::format("check nvidia-smi and CUDA_VISIBLE_DEVICES, or {}", kUseCpu)};
  }
  return {fmt::format("CUDA does not start: {} ({})", cudaGetErrorString(found.error),
                      cudaGetErrorName(found.error)),
          fmt::format("check nvidia-smi, or {}", kUseCpu)};
}

Device describe_device(int index) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, index), "asking for the GPU's properties");
  Device device;
  device.kind = DeviceKind::cuda;
  device.name = properties.name;
  device.memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  device.index = index;
  device.capability = 10 * properties.major + properties.minor;
  return device;
}

}  // namespace

bool has_cuda() {
  return true;
}

CudaObstacle cuda_obstacle() {
  return obstacle(find());
}

std::string cuda_versions() {
  const std::string built = version_text(CUDART_VERSION);
  const Found found = find();
  if (found.devices == 0) return fmt::format("{}; {}", built, obstacle(found).sentence);
  std::string text = fmt::format("{}, driver {}, {} device{}:", built, version_text(driver_version()),
                                 found.devices, found.devices == 1 ? "" : "s");
  for (int i = 0; i < found.devices; i++) {
    const Device device = describe_device(i);
    text += fmt::format("{} {} (sm_{}, {})", i == 0 ? "" : ",", device.name, device.capability,
                        bytes_text(static_cast<size_t>(device.memory_bytes)));
  }
  return text;
}

Device cuda_device(int index) {
  const Found found = find();
  if (const CudaObstacle o = obstacle(found); !o.sentence.empty())
    throw Error(ExitCode::device, o.sentence, o.hint);
  if (index < 0 || index >= found.devices) {
    throw Error(ExitCode::device,
                fmt::format("no CUDA device {}: this machine has {}, counted from 0", index, found.devices),
                "check nvidia-smi and CUDA_VISIBLE_DEVICES");
  }
  Device device = describe_device(index);
  if (device.capability < kLeastCapability) {
    throw Error(ExitCode::device,
                fmt::format("CUDA device {} ({}) has compute capability {}.{}; kiln needs 8.0 or later",
                            index, device.name, device.capability / 10, device.capability % 10),
                kUseCpu);
  }
  check(cudaSetDevice(index), "choosing the GPU");
  return device;
}

Device planned_cuda_device() {
  Device device;
  device.kind = DeviceKind::cuda;
  device.name = "any GPU";
  device.capability = kLeastCapability;
  return device;
}

}  // namespace kiln
