// The tests of src/device/cuda* and kernels/cuda. On a machine without a GPU that kiln could use they are skipped, in one
// line.
#include <gtest/gtest.h>

#include <cstdio>

#include "src/core/error.h"
#include "src/device/cuda.h"

int main(int argc, char** argv) {
  constexpr int kSkipped = 77;
  testing::InitGoogleTest(&argc, argv);
  if (!GTEST_FLAG_GET(list_tests)) {
    try {
      kiln::cuda_device();
    } catch (const kiln::Error& none) {
      std::printf("skipped: %s\n", none.what());
      return kSkipped;
    }
  }
  return RUN_ALL_TESTS();
}
