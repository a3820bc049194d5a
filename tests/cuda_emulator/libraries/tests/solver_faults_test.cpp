// Faults of calls of cuSOLVER, planted once each.
#include <gtest/gtest.h>

#include <functional>

#include "tests/cuda_emulator/findings.h"
#include "tests/cuda_emulator/libraries/tests/solver_harness.h"

namespace kiln::emulator::testing {

namespace {

constexpr int64_t kSize = 6;
constexpr auto kFinding = CUSOLVER_STATUS_EXECUTION_FAILED;

// A Cholesky factorisation, right until a test spoils it.
struct SolverCase {
  SolverCase() : random(1), a(symmetric_matrices<float>(random, kSize, kSize, 1, true)) {
    cusolverDnXpotrf_bufferSize(solver.handle, solver.params, fill, kSize, CUDA_R_32F, a.data(), kSize,
                                CUDA_R_32F, &device_bytes, &host_bytes);
    solver.make_room(device_bytes, host_bytes);
    a_data = a.data();
    device = solver.on_device->data();
    host = solver.on_host.data();
    info = solver.info.data();
    params = solver.params;
    handle = solver.handle;
  }
  cusolverStatus_t run() {
    return cusolverDnXpotrf(handle, params, fill, kSize, type, a_data, lda, compute, device, device_bytes,
                            host, host_bytes, info);
  }

  std::mt19937 random;
  DeviceArray<float> a;
  Solver solver;
  cusolverDnHandle_t handle;
  cusolverDnParams_t params;
  cublasFillMode_t fill = CUBLAS_FILL_MODE_LOWER;
  cudaDataType type = CUDA_R_32F, compute = CUDA_R_32F;
  void *a_data, *device, *host;
  int64_t lda = kSize;
  size_t device_bytes = 0, host_bytes = 0;
  int* info;
};

struct Fault {
  const char* name;
  cusolverStatus_t status;
  const char* says;
  std::function<void(SolverCase&)> plant;
};

TEST(SolverFaults, AreCaught) {
  static float host_memory[64];
  static DeviceArray<float> unwritten(kSize * kSize);
  const std::vector<Fault> faults = {
      {"handle", CUSOLVER_STATUS_NOT_INITIALIZED, "the handle is null",
       [](SolverCase& s) { s.handle = nullptr; }},
      {"no parameters", kFinding, "the parameters are null", [](SolverCase& s) { s.params = nullptr; }},
      {"wrong parameters", kFinding, "none of the cuSOLVER parameters",
       [](SolverCase& s) { s.params = reinterpret_cast<cusolverDnParams_t>(s.handle); }},
      {"lda", CUSOLVER_STATUS_INVALID_VALUE, "lda is 5", [](SolverCase& s) { s.lda = 5; }},
      {"triangle", CUSOLVER_STATUS_INVALID_VALUE, "cublasFillMode_t 2",
       [](SolverCase& s) { s.fill = CUBLAS_FILL_MODE_FULL; }},
      {"types", kFinding, "is not implemented", [](SolverCase& s) { s.compute = CUDA_R_64F; }},
      {"host matrix", kFinding, "A is no device pointer", [](SolverCase& s) { s.a_data = host_memory; }},
      {"host info", kFinding, "info is no device pointer",
       [](SolverCase& s) { s.info = reinterpret_cast<int*>(host_memory); }},
      {"small workspace", CUSOLVER_STATUS_INVALID_VALUE, "on the device; 280 are needed",
       [](SolverCase& s) { --s.device_bytes; }},
      {"no workspace", kFinding, "the workspace is no device pointer",
       [](SolverCase& s) { s.device = nullptr; }},
      {"small host workspace", CUSOLVER_STATUS_INVALID_VALUE, "on the host; 512 are needed",
       [](SolverCase& s) { s.host_bytes = 0; }},
      {"a host workspace on the device", kFinding, "the host's workspace is no host pointer",
       [](SolverCase& s) { s.host = s.device; }},
      {"a matrix that was never written", CUSOLVER_STATUS_SUCCESS, "A reads uninitialised",
       [](SolverCase& s) { s.a_data = unwritten.data(); }},
      {"a workspace within the matrix", CUSOLVER_STATUS_SUCCESS, "memory that the same call writes elsewhere",
       [](SolverCase& s) { s.a_data = s.device; }},
  };
  for (const Fault& fault : faults) {
    FindingCapture capture;
    SolverCase setup;
    fault.plant(setup);
    EXPECT_EQ(setup.run(), fault.status) << fault.name << "\n" << capture.all();
    cudaDeviceSynchronize();
    EXPECT_NE(capture.all().find(fault.says), std::string::npos) << fault.name << ":\n" << capture.all();
    EXPECT_EQ(capture.findings().size(), 1u) << fault.name << ":\n" << capture.all();
    cudaGetLastError();
  }
}

TEST(SolverFaults, OnlyTheTriangleIsRead) {
  std::vector<float> lower(kSize * kSize);
  DeviceArray<float> memory(kSize * kSize);
  for (int64_t j = 0; j < kSize; ++j) {  // column by column below the diagonal
    std::vector<float> column(static_cast<size_t>(kSize - j), 0.5f);
    column[0] = 4;
    cudaMemcpy(memory.data() + j * kSize + j, column.data(), column.size() * sizeof(float),
               cudaMemcpyHostToDevice);
  }
  SolverCase s;
  s.a_data = memory.data();
  ASSERT_EQ(s.run(), CUSOLVER_STATUS_SUCCESS);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  FindingCapture capture;
  s.fill = CUBLAS_FILL_MODE_UPPER;
  ASSERT_EQ(s.run(), CUSOLVER_STATUS_SUCCESS);
  cudaDeviceSynchronize();
  EXPECT_NE(capture.all().find("A reads uninitialised"), std::string::npos);
  cudaGetLastError();
}

TEST(SolverFaults, HostWorkspacesKeepNothing) {
  SolverCase s;
  s.solver.on_host[5] = 1;
  ASSERT_EQ(s.run(), CUSOLVER_STATUS_SUCCESS);
  EXPECT_EQ(s.solver.on_host[5], static_cast<char>(0xff));
  cudaDeviceSynchronize();
}

TEST(SolverFaults, ShapesOfOrgqr) {
  SolverCase s;
  FindingCapture capture;
  int length = 0;
  EXPECT_EQ(cusolverDnSorgqr_bufferSize(s.handle, 3, 5, 3, nullptr, 3, nullptr, &length),
            CUSOLVER_STATUS_INVALID_VALUE);
  EXPECT_NE(capture.all().find("m >= n >= k should hold"), std::string::npos);
  capture.clear();
  DeviceArray<float> work(1);
  EXPECT_EQ(cusolverDnSorgqr(s.handle, 6, 6, 6, s.a.data(), 6, s.a.data(), work.data(), 1, s.info),
            CUSOLVER_STATUS_INVALID_VALUE);
  EXPECT_NE(capture.all().find("a workspace of 4 bytes on the device; 768 are needed"), std::string::npos)
      << capture.all();
}

TEST(SolverFaults, ResultsOfOtherStreams) {
  SolverCase s;
  cudaStream_t stream;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  FindingCapture capture;
  ASSERT_EQ(cusolverDnSetStream(s.handle, stream), CUSOLVER_STATUS_SUCCESS);
  ASSERT_EQ(s.run(), CUSOLVER_STATUS_SUCCESS);
  cudaStreamDestroy(stream);
  s.a.read();
  EXPECT_NE(capture.all().find("is ordered by no event or synchronisation after cusolverDnXpotrf of n 6"),
            std::string::npos)
      << capture.all();
  cudaGetLastError();
}

TEST(SolverFaultsDeathTest, LeaksAreReportedAtExit) {
  EXPECT_EXIT(
      {
        cusolverDnParams_t params;
        cusolverDnCreateParams(&params);
        std::exit(0);
      },
      ::testing::ExitedWithCode(kFindingExit), "leaked at exit:(.|\n)*1 cuSOLVER parameters");
}

}  // namespace

}  // namespace kiln::emulator::testing
