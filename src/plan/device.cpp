#include "src/plan/device.h"

#include "src/device/cuda.h"

namespace kiln::plan {
namespace {

Device cpu_of(const config::DeviceOptions& options) {
  return cpu_device(static_cast<int>(options.threads), options.isa);
}

// The host's share of a run on a GPU keeps its threads.
Device with_threads(Device device, const config::DeviceOptions& options) {
  device.threads = cpu_of(options).threads;
  return device;
}

}  // namespace

Device device_of(const config::DeviceOptions& options) {
  return options.kind == "cuda" ? with_threads(cuda_device(), options) : cpu_of(options);
}

Device planned_device_of(const config::DeviceOptions& options) {
  return options.kind == "cuda" ? with_threads(planned_cuda_device(), options) : cpu_of(options);
}

}  // namespace kiln::plan
