// Faults of calls of cuBLAS, planted once each.
#include <cublas_v2.h>
#include <gtest/gtest.h>

#include <functional>

#include "tests/cuda_emulator/findings.h"
#include "tests/cuda_emulator/libraries/tests/lt_harness.h"

namespace kiln::emulator::testing {

namespace {

constexpr int kSize = 8;

// A batch of one product of 8 x 8 matrices, right until a test spoils it.
struct BlasCase {
  explicit BlasCase(cudaDataType type = CUDA_R_32F)
      : in(type), a(type, std::vector<float>(80, 1)), b(type, std::vector<float>(64, 1)), c(CUDA_R_32F, 64) {
    cublasCreate(&handle);
    as = std::make_unique<DeviceArray<void*>>(std::vector<void*>{a.data()});
    bs = std::make_unique<DeviceArray<void*>>(std::vector<void*>{b.data()});
    cs = std::make_unique<DeviceArray<void*>>(std::vector<void*>{c.data()});
    a_array = as->data();
  }
  ~BlasCase() { cublasDestroy(handle); }
  cublasStatus_t run() {
    return cublasGemmBatchedEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, kSize, kSize, kSize, alpha_pointer, a_array,
                               in, lda, bs->data(), in, kSize, &beta, cs->data(), out, kSize, count, compute,
                               algorithm);
  }

  cudaDataType in;
  cudaDataType out = CUDA_R_32F;
  TypedArray a, b, c;
  std::unique_ptr<DeviceArray<void*>> as, bs, cs;
  void** a_array;
  cublasHandle_t handle = nullptr;
  float alpha = 1, beta = 0;
  const void* alpha_pointer = &alpha;
  int lda = kSize, count = 1;
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  cublasGemmAlgo_t algorithm = CUBLAS_GEMM_DEFAULT;
};

struct Fault {
  const char* name;
  cublasStatus_t status;
  const char* says;
  std::function<void(BlasCase&)> plant;
  bool late = false;  // found when the stream gets there
  cudaDataType type = CUDA_R_32F;
};

constexpr auto kFinding = CUBLAS_STATUS_EXECUTION_FAILED;

TEST(BlasFaults, AreCaught) {
  static char host_array[64];
  const std::vector<Fault> faults = {
      {"lda", CUBLAS_STATUS_INVALID_VALUE, "lda is 7, it should be at least 8",
       [](BlasCase& s) { s.lda = 7; }},
      {"count", CUBLAS_STATUS_INVALID_VALUE, "batch -1", [](BlasCase& s) { s.count = -1; }},
      {"types", CUBLAS_STATUS_NOT_SUPPORTED, "are not in the table",
       [](BlasCase& s) { s.out = CUDA_R_16BF; }},
      {"no alpha", CUBLAS_STATUS_INVALID_VALUE, "alpha is null",
       [](BlasCase& s) { s.alpha_pointer = nullptr; }},
      {"compute type", kFinding, "cublasComputeType_t 70 is not implemented",
       [](BlasCase& s) { s.compute = CUBLAS_COMPUTE_64F; }},
      {"algorithm", kFinding, "cublasGemmAlgo_t 3 is not implemented",
       [](BlasCase& s) { s.algorithm = CUBLAS_GEMM_ALGO3; }},
      {"sums of rounded parts", kFinding,
       "C in CUDA_R_16BF without CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION",
       [](BlasCase& s) { s.out = CUDA_R_16BF; }, false, CUDA_R_16BF},
      {"an array on the host", kFinding, "Aarray is no device pointer",
       [](BlasCase& s) { s.a_array = reinterpret_cast<void**>(host_array); }},
      {"a longer batch than the arrays", kFinding, "out of bounds: Aarray", [](BlasCase& s) { s.count = 2; }},
      {"a pointer to the host", kFinding, "pointer 0 of the array A is no device pointer",
       [](BlasCase& s) {
         s.as = std::make_unique<DeviceArray<void*>>(std::vector<void*>{&s}), s.a_array = s.as->data();
       },
       true},
      {"bf16 factors aligned to 4 bytes with k = 8", kFinding,
       "pointer 0 of the array A is not aligned to 16 bytes",
       [](BlasCase& s) {
         s.as = std::make_unique<DeviceArray<void*>>(std::vector<void*>{static_cast<char*>(s.a.data()) + 4});
         s.a_array = s.as->data();
       },
       true, CUDA_R_16BF},
      {"a result over a factor", kFinding, ": C writes memory that the same call reads elsewhere",
       [](BlasCase& s) { s.cs = std::make_unique<DeviceArray<void*>>(std::vector<void*>{s.a.data()}); },
       true},
      {"what was never written", kFinding, ": C reads uninitialised", [](BlasCase& s) { s.beta = 1; }, true},
  };
  for (const Fault& fault : faults) {
    FindingCapture capture;
    BlasCase setup(fault.type);
    fault.plant(setup);
    EXPECT_EQ(setup.run(), fault.late ? CUBLAS_STATUS_SUCCESS : fault.status) << fault.name << "\n"
                                                                              << capture.all();
    cudaDeviceSynchronize();
    EXPECT_NE(capture.all().find(fault.says), std::string::npos) << fault.name << ":\n" << capture.all();
    EXPECT_EQ(capture.findings().size(), 1u) << fault.name << ":\n" << capture.all();
    cudaGetLastError();
  }
}

TEST(BlasFaults, Handles) {
  FindingCapture capture;
  EXPECT_EQ(cublasSetStream(nullptr, nullptr), CUBLAS_STATUS_NOT_INITIALIZED);
  cublasHandle_t handle = nullptr;
  EXPECT_EQ(cublasCreate(&handle), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cublasSetMathMode(handle, CUBLAS_PEDANTIC_MATH), CUBLAS_STATUS_SUCCESS);
  cublasMath_t mode;
  EXPECT_EQ(cublasGetMathMode(handle, &mode), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(mode, CUBLAS_PEDANTIC_MATH);
  capture.clear();
  EXPECT_EQ(cublasSetMathMode(handle, CUBLAS_TF32_TENSOR_OP_MATH), kFinding);
  EXPECT_NE(capture.all().find("cublasMath_t 3 is not implemented"), std::string::npos);
  EXPECT_EQ(cublasDestroy(handle), CUBLAS_STATUS_SUCCESS);
  capture.clear();
  EXPECT_EQ(cublasSetStream(handle, nullptr), kFinding);
  EXPECT_NE(capture.all().find("cuBLAS handles that was destroyed"), std::string::npos);
}

TEST(BlasFaults, AStreamThatDropsTheWorkspace) {
  BlasCase s;
  FindingCapture capture;
  DeviceArray<char> workspace(4096);
  EXPECT_EQ(cublasSetWorkspace(s.handle, workspace.data() + 16, 1024), kFinding);
  EXPECT_NE(capture.all().find("the workspace is not aligned to 256 bytes"), std::string::npos);
  capture.clear();
  EXPECT_EQ(cublasSetWorkspace(s.handle, workspace.data(), 4096), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(s.run(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cublasSetStream(s.handle, nullptr), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(s.run(), kFinding);
  EXPECT_NE(capture.all().find("brought the default workspace back"), std::string::npos) << capture.all();
  EXPECT_EQ(cublasSetWorkspace(s.handle, workspace.data(), 4096), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(s.run(), CUBLAS_STATUS_SUCCESS);
  cudaDeviceSynchronize();
}

TEST(BlasFaults, StatusesHaveNames) {
  EXPECT_STREQ(cublasGetStatusName(CUBLAS_STATUS_NOT_SUPPORTED), "CUBLAS_STATUS_NOT_SUPPORTED");
  EXPECT_STREQ(cublasLtGetStatusString(CUBLAS_STATUS_NOT_INITIALIZED), "the library was not initialized");
}

}  // namespace

}  // namespace kiln::emulator::testing
