// The tests of src/device/cuda* and kernels/cuda. On a machine without a GPU they are skipped, in one line.
#include <gtest/gtest.h>

#include <cstdio>

#include "src/device/cuda.h"

int main(int argc, char** argv) {
  constexpr int kSkipped = 77;
  testing::InitGoogleTest(&argc, argv);
  if (!GTEST_FLAG_GET(list_tests)) {
    if (const std::string why = kiln::cuda_obstacle().sentence; !why.empty()) {
      std::printf("skipped: %s\n", why.c_str());
      return kSkipped;
    }
  }
  return RUN_ALL_TESTS();
}
