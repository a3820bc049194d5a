// What a call of cuBLASLt does to memory is found when the stream gets there.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/cuda_emulator/findings.h"
#include "tests/cuda_emulator/libraries/tests/lt_case.h"

namespace kiln::emulator::testing {

namespace {

void expect_late(LtCase& setup, const char* says) {
  FindingCapture capture;
  ASSERT_EQ(setup.choose_and_run(), CUBLAS_STATUS_SUCCESS) << capture.all();
  cudaDeviceSynchronize();
  EXPECT_NE(capture.all().find(says), std::string::npos) << capture.all();
  cudaGetLastError();
}

TEST(LtMemoryFaults, ReadingWhatWasNeverWritten) {
  LtCase s;
  TypedArray unwritten(CUDA_R_32F, 15);
  s.a_data = unwritten.data();
  expect_late(s,
              "cublasLtMatmul of m 5, n 7, k 3, batch 1: A reads uninitialised global memory at byte 0 of");
}

TEST(LtMemoryFaults, AddingWhatWasNeverWritten) {
  LtCase s;
  TypedArray unwritten(CUDA_R_32F, 35);
  s.c_data = s.d_data = unwritten.data();
  s.matmul.beta = 1;
  expect_late(s, ": C reads uninitialised");
}

TEST(LtMemoryFaults, WithoutBetaNothingIsAdded) {
  LtCase s;
  TypedArray unwritten(CUDA_R_32F, 35);
  s.c_data = unwritten.data();
  ASSERT_EQ(s.choose_and_run(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

TEST(LtMemoryFaults, WritingWhatIsRead) {
  LtCase s({.m = 4, .n = 4, .k = 4});
  s.d_data = s.a_data;
  expect_late(s, ": D writes memory that the same call reads elsewhere");
}

TEST(LtMemoryFaults, WritingOverWhatIsAdded) {
  LtCase s({.m = 4, .n = 4, .k = 4});
  for (const auto each :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    s.matmul.prefer(each, uint32_t{4});
  TypedArray both(CUDA_R_32F, std::vector<float>(20, 1.0f));
  s.c_data = both.data();
  s.d_data = static_cast<float*>(both.data()) + 4;
  s.matmul.beta = 1;
  expect_late(s, ": D writes memory that the same call reads elsewhere");
}

TEST(LtMemoryFaults, ABatchThatWritesOverItself) {
  LtCase s({.m = 4, .n = 4, .k = 4, .count = 2});
  s.matmul.set(s.matmul.d, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, int64_t{12});
  expect_late(s, ": D writes memory that the same call writes elsewhere");
}

TEST(LtMemoryFaults, AWorkspaceThatIsAnInput) {
  LtCase s;
  s.a_data = s.matmul.workspace.data();
  expect_late(s, ": A reads memory that the same call writes elsewhere");
}

TEST(LtMemoryFaults, AWorkspaceKeepsNothing) {
  LtCase s;
  cudaMemset(s.matmul.workspace.data(), 0, s.matmul.workspace.size());
  ASSERT_EQ(s.choose_and_run(), CUBLAS_STATUS_SUCCESS);
  float first = 0;
  cudaMemcpy(&first, s.matmul.workspace.data(), sizeof first, cudaMemcpyDeviceToHost);
  EXPECT_TRUE(std::isnan(first));
}

struct TwoStreams {
  TwoStreams() {
    cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking);
  }
  ~TwoStreams() {
    cudaStreamDestroy(a);
    cudaStreamDestroy(b);
  }
  cudaStream_t a = nullptr, b = nullptr;
};

TEST(LtMemoryFaults, StreamsThatShareAWorkspace) {
  LtCase s;
  TwoStreams streams;
  FindingCapture capture;
  ASSERT_EQ(s.matmul.choose(), CUBLAS_STATUS_SUCCESS);
  s.matmul.run(s.a_data, s.b_data, s.c_data, s.c_data, streams.a);
  s.matmul.run(s.a_data, s.b_data, s.d_data, s.d_data, streams.b);
  cudaDeviceSynchronize();
  EXPECT_NE(
      capture.all().find(": the workspace is ordered by no event or synchronisation after cublasLtMatmul of"),
      std::string::npos)
      << capture.all();
  cudaGetLastError();
}

TEST(LtMemoryFaults, AResultReadBeforeItIsOrdered) {
  LtCase s;
  TwoStreams streams;
  DeviceArray<float> copy(35);
  FindingCapture capture;
  ASSERT_EQ(s.matmul.choose(), CUBLAS_STATUS_SUCCESS);
  s.matmul.run(s.a_data, s.b_data, s.d_data, s.d_data, streams.a);
  cudaMemcpyAsync(copy.data(), s.d_data, 35 * sizeof(float), cudaMemcpyDeviceToDevice, streams.b);
  cudaStreamSynchronize(streams.a);
  cudaStreamSynchronize(streams.b);
  EXPECT_NE(capture.all().find("is ordered by no event or synchronisation after cublasLtMatmul"),
            std::string::npos)
      << capture.all();
  cudaGetLastError();
}

TEST(LtMemoryFaults, PointersOfABatch) {
  for (const int fault : {0, 1, 2}) {
    LtCase s({.count = 2});
    for (const auto each : {s.matmul.a, s.matmul.b, s.matmul.c, s.matmul.d})
      s.matmul.set(each, CUBLASLT_MATRIX_LAYOUT_BATCH_MODE, uint32_t{1});
    TypedArray other(CUDA_R_32F, std::vector<float>(35, 1.0f));
    DeviceArray<void*> as(std::vector<void*>{s.a_data, s.a_data}), bs(std::vector<void*>{s.b_data, s.b_data});
    DeviceArray<void*> ds(std::vector<void*>{s.d_data, fault == 0 ? s.d_data : other.data()});
    DeviceArray<void*> wrong(std::vector<void*>{s.a_data, static_cast<void*>(&s)}), unwritten(2);
    s.a_data = fault == 1 ? wrong.data() : fault == 2 ? unwritten.data() : as.data();
    s.b_data = bs.data();
    s.c_data = s.d_data = ds.data();
    constexpr const char* kSays[] = {": D writes memory that the same call writes elsewhere",
                                     "pointer 1 of the array A is no device pointer",
                                     ": A reads uninitialised"};
    expect_late(s, kSays[fault]);
  }
}

}  // namespace

}  // namespace kiln::emulator::testing
