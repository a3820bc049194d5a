// The tests of src/device/cuda* and kernels/cuda. On a machine without a GPU that kiln could use they are skipped, in one
// line; one whose GPU does not work fails.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "src/core/error.h"
#include "src/device/cuda.h"

namespace {

// No driver, no device, or one that is too old: asked of CUDA itself, since kiln refuses for other reasons too.
bool lacks_gpu() {
  int devices = 0, driver = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  cudaGetLastError();
  if (error == cudaErrorInsufficientDriver) {
    return cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0;
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && devices == 0)) return true;
  cudaDeviceProp properties;
  return error == cudaSuccess && cudaGetDeviceProperties(&properties, 0) == cudaSuccess &&
         10 * properties.major + properties.minor < kiln::kLeastCapability;
}

}  // namespace

int main(int argc, char** argv) {
  constexpr int kSkipped = 77;
  testing::InitGoogleTest(&argc, argv);
  if (!GTEST_FLAG_GET(list_tests)) {
    try {
      kiln::cuda_device();
    } catch (const kiln::Error& refusal) {
      const bool skipped = lacks_gpu();
      std::printf("%s: %s\n", skipped ? "skipped" : "error", refusal.what());
      return skipped ? kSkipped : 1;
    }
  }
  return RUN_ALL_TESTS();
}
