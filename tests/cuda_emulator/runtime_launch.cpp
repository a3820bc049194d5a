// What nvcc's host code calls: registration of kernels, launches, function attributes.
#include <fmt/format.h>

#include <cstring>

#include "tests/cuda_emulator/launch.h"
#include "tests/cuda_emulator/modules.h"
#include "tests/cuda_emulator/runtime.h"

using namespace kiln::emulator;

namespace {

struct Configuration {
  dim3 grid, block;
  size_t shared = 0;
  cudaStream_t stream = nullptr;
};

Configuration& pushed_configuration() {
  static Configuration configuration;
  return configuration;
}

Dim3 sizes(const dim3& d) {
  return {d.x, d.y, d.z};
}

// The kernel, decoded; a Finding where the emulator cannot read it.
const Kernel& decoded(const RegisteredKernel& registered) {
  try {
    return registered.module->kernel(registered.name);
  } catch (const PtxError& error) {
    throw Finding(fmt::format("the PTX of {} cannot be read: {}", registered.name, error.what()));
  }
}

cudaError_t error_of(LaunchProblem problem) {
  switch (problem) {
    case LaunchProblem::kConfiguration:
      return cudaErrorInvalidConfiguration;
    case LaunchProblem::kResources:
      return cudaErrorLaunchOutOfResources;
    case LaunchProblem::kShared:
      return cudaErrorInvalidValue;
    case LaunchProblem::kNone:
      break;
  }
  return cudaSuccess;
}

cudaError_t launch(const void* function, const dim3& grid, const dim3& block, void** arguments, size_t shared,
                   cudaStream_t stream) {
  const RegisteredKernel* registered = find_kernel(function);
  if (registered == nullptr) return set_error(cudaErrorInvalidDeviceFunction);
  LaunchProblem problem = LaunchProblem::kNone;
  const cudaError_t error = guarded([&] {
    const Kernel& kernel = decoded(*registered);
    std::string why;
    problem =
        launch_problem(kernel, sizes(grid), sizes(block), shared, registered->dynamic_shared_limit, why);
    if (problem == LaunchProblem::kNone) {
      add_launch(stream_of(stream), kernel, sizes(grid), sizes(block), shared, arguments);
    } else {
      note(
          fmt::format("launch of {} (whose code begins at {}): {}", kernel.shown_name, kernel.where(0), why));
    }
  });
  return problem == LaunchProblem::kNone ? error : set_error(error_of(problem));
}

}  // namespace

extern "C" {

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, CUstream_st* stream) {
  pushed_configuration() = {grid, block, shared, stream};
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  const Configuration& configuration = pushed_configuration();
  *grid = configuration.grid;
  *block = configuration.block;
  *shared = configuration.shared;
  std::memcpy(stream, &configuration.stream, sizeof configuration.stream);
  return cudaSuccess;
}

void** __cudaRegisterFatBinary(void* wrapper) {
  struct Wrapper {
    int magic, version;
    const uint8_t* data;
    void* more;
  };
  const auto* found = static_cast<const Wrapper*>(wrapper);
  return reinterpret_cast<void**>(register_module(ptx_of_fat_binary(found->data)));
}

void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) {
  return 0;
}

void __cudaRegisterFunction(void** module, const char* host_function, char*, const char* name, int, uint3*,
                            uint3*, dim3*, dim3*, int*) {
  register_kernel(host_function, reinterpret_cast<Module*>(module), name);
}

// Variables live in the module; the host has no way to them.
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments, size_t shared,
                             cudaStream_t stream) {
  return launch(function, grid, block, arguments, shared, stream);
}

// The host function serves as the handle.
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  std::memcpy(kernel, &function, sizeof function);
  return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, size_t shared,
                               cudaStream_t stream) {
  return launch(reinterpret_cast<const void*>(kernel), grid, block, arguments, shared, stream);
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  RegisteredKernel* registered = find_kernel(function);
  if (registered == nullptr) return set_error(cudaErrorInvalidDeviceFunction);
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;  // a hint
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return set_error(cudaErrorInvalidValue);
  bool allowed = false;
  const cudaError_t error = guarded([&] {
    const Kernel& kernel = decoded(*registered);
    const uint32_t fixed = kernel.static_shared_bytes;
    allowed = value >= 0 && static_cast<uint32_t>(value) + fixed <= limits::kSharedPerBlockOptIn;
    if (allowed) {
      registered->dynamic_shared_limit = static_cast<uint32_t>(value) + fixed;
    } else {
      note(
          fmt::format("cudaFuncSetAttribute for {} (whose code begins at {}): {} bytes of dynamic and {} of "
                      "static shared memory; "
                      "the limit is {} in all",
                      kernel.shown_name, kernel.where(0), value, fixed, limits::kSharedPerBlockOptIn));
    }
  });
  return allowed ? error : set_error(cudaErrorInvalidValue);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  const RegisteredKernel* registered = find_kernel(function);
  if (registered == nullptr) return set_error(cudaErrorInvalidDeviceFunction);
  return guarded([&] {
    const Kernel& kernel = decoded(*registered);
    *attributes = {};
    attributes->sharedSizeBytes = kernel.static_shared_bytes;
    attributes->localSizeBytes = kernel.local_bytes;
    attributes->maxThreadsPerBlock = static_cast<int>(kernel.max_threads);
    attributes->maxDynamicSharedSizeBytes =
        static_cast<int>(registered->dynamic_shared_limit -
                         std::min(registered->dynamic_shared_limit, kernel.static_shared_bytes));
    attributes->ptxVersion = attributes->binaryVersion = 10 * limits::kMajor + limits::kMinor;
  });
}

}  // extern "C"
