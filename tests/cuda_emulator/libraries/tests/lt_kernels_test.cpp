// Kernels and multiplications in one program: results are handed on, and what no event orders is found, either way.
#include <gtest/gtest.h>

#include "tests/cuda_emulator/findings.h"
#include "tests/cuda_emulator/libraries/tests/halve.h"
#include "tests/cuda_emulator/libraries/tests/lt_harness.h"

namespace kiln::emulator::testing {

namespace {

// y = (x / 2) I, z = y / 2, in two streams.
struct Pipeline {
  Pipeline() {
    cudaStreamCreateWithFlags(&kernels, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&products, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    matmul.choose();
  }
  ~Pipeline() {
    cudaEventDestroy(event);
    cudaStreamDestroy(kernels);
    cudaStreamDestroy(products);
  }
  void order(cudaStream_t first, cudaStream_t second) {
    cudaEventRecord(event, first);
    cudaStreamWaitEvent(second, event, 0);
  }
  void run(bool order_first, bool order_second) {
    launch_halve(half.data(), x.data(), 4, kernels);
    if (order_first) order(kernels, products);
    ASSERT_EQ(matmul.run(half.data(), identity.data(), y.data(), y.data(), products), CUBLAS_STATUS_SUCCESS);
    if (order_second) order(products, kernels);
    launch_halve(z.data(), y.data(), 4, kernels);
    cudaStreamSynchronize(product_first ? products : kernels);
    cudaDeviceSynchronize();
  }

  DeviceArray<float> x{std::vector<float>{4, 8, 12, 16}}, half{4}, identity{std::vector<float>{1, 0, 0, 1}},
      y{4}, z{4};
  LtMatmul matmul{LtShape{.m = 2, .n = 2, .k = 2}};
  cudaStream_t kernels = nullptr, products = nullptr;
  cudaEvent_t event = nullptr;
  bool product_first = false;  // is waited for first
};

TEST(LtKernels, HandOnResults) {
  Pipeline p;
  p.run(true, true);
  EXPECT_EQ(p.z.read(), (std::vector<float>{1, 2, 3, 4}));
}

TEST(LtKernels, AProductThatDoesNotWaitForAKernel) {
  FindingCapture capture;
  {
    Pipeline p;
    p.run(false, true);
  }
  EXPECT_NE(capture.all().find(": A is ordered by no event or synchronisation after kernel"),
            std::string::npos)
      << capture.all();
  cudaGetLastError();
}

TEST(LtKernels, AKernelThatDoesNotWaitForAProduct) {
  for (const bool product_first : {false, true}) {
    FindingCapture capture;
    {
      Pipeline p;
      p.run(true, true);
      EXPECT_EQ(capture.all(), "");
      p.product_first = product_first;
      p.run(true, false);
    }
    const char* says = product_first ? "cublasLtMatmul of m 2, n 2, k 2, batch 1"
                                     : ": D is ordered by no event or synchronisation after kernel";
    EXPECT_NE(capture.all().find(says), std::string::npos) << capture.all();
    cudaGetLastError();
  }
}

}  // namespace

}  // namespace kiln::emulator::testing
