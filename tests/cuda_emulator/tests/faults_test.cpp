// Every kind of fault is found, with the .cu file and the line that it was planted in (tests/faults.cu).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "tests/cuda_emulator/findings.h"
#include "tests/cuda_emulator/tests/device_array.h"
#include "tests/cuda_emulator/tests/faults.h"
#include "tests/paths.h"

namespace kiln::emulator::testing {

namespace {

struct Planted {
  const char* name;
  const char* message;  // part of what must be said
};

std::ostream& operator<<(std::ostream& stream, const Planted& planted) {
  return stream << planted.name;
}

// The line of faults.cu that ends in "// name", as "faults.cu:12".
std::string planted_line(const std::string& name) {
  std::ifstream file(paths::source() + "/tests/cuda_emulator/tests/faults.cu");
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    const std::string mark = "// " + name;
    if (line.size() > mark.size() && line.ends_with(mark)) return fmt::format("faults.cu:{} ", number);
  }
  return "no such line";
}

class Fault : public ::testing::TestWithParam<Planted> {};

TEST_P(Fault, IsFoundWithItsLine) {
  const Planted& planted = GetParam();
  DeviceArray<float> memory(std::vector<float>(4096, 1.0f)), fresh(4096);
  const std::vector<float> host(64, 1.0f);
  FindingCapture capture;
  launch_fault(planted.name, memory.data(), fresh.data(), host.data());
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  ASSERT_EQ(capture.findings().size(), 1u) << capture.all();
  const std::string& text = capture.findings()[0];
  EXPECT_NE(text.find(planted.message), std::string::npos) << text;
  EXPECT_NE(text.find(planted_line(planted.name)), std::string::npos)
      << planted_line(planted.name) << " in " << text;
  EXPECT_NE(text.find(std::string("::") + planted.name + "("), std::string::npos) << text;  // the kernel
  EXPECT_NE(text.find("block ("), std::string::npos) << text;
  cudaGetLastError();
}

constexpr Planted kPlanted[] = {
    {"read_beyond", "out of bounds: reads 4 bytes at 0 bytes after the end of allocation"},
    {"write_beyond", "out of bounds: writes 4 bytes at 0 bytes after the end of allocation"},
    {"write_before", "out of bounds: writes 4 bytes at 4 bytes before allocation"},
    {"null_pointer", "a null pointer"},
    {"shared_beyond", "out of bounds: reads 4 bytes at offset 260 of shared memory"},
    {"shared_into_next", "out of bounds: writes 4 bytes at offset 260 of shared memory"},
    {"dynamic_beyond", "shared memory: 252 bytes"},
    {"local_beyond", "of 32 bytes of local memory"},
    {"misaligned", "misaligned: writes 16 bytes at an address that is 4 modulo 16"},
    {"misaligned_read", "misaligned: reads 8 bytes at an address that is 4 modulo 8"},
    {"misaligned_shared_read", "misaligned: reads 16 bytes at an address that is 4 modulo 16"},
    {"weak_shared", "misaligned: reads 16 bytes at an address that is 4 modulo 16"},
    {"weak_variable", "misaligned: reads 16 bytes at an address that is 4 modulo 16"},
    {"parameter_beyond", "out of bounds: reads 4 bytes at offset 104 of the parameters"},
    {"parameter_into_next", "out of bounds: reads 4 bytes at offset 104 of the parameters"},
    {"uninitialised_global", "reads uninitialised global memory"},
    {"uninitialised_tail", "reads uninitialised global memory"},
    {"uninitialised_shared", "reads uninitialised shared memory"},
    {"missing_syncthreads", "is a barrier missing?"},
    {"missing_second_syncthreads", "data race in shared memory"},
    {"missing_syncwarp", "data race in shared memory: a read after a write"},
    {"syncwarp_of_half", "data race in shared memory: a read after a write"},
    {"race_in_block", "data race in global memory: a write after a write"},
    {"race_in_warp", "data race in global memory: a write after a write"},
    {"race_of_volatile", "data race in global memory: a read after a write"},
    {"device_function", "unsupported instruction: call, whose argument param0 is"},
    {"race_between_blocks", "data race in global memory"},
    {"read_of_other_block", "data race in global memory"},
    {"atomic_and_plain", "data race in global memory"},
    {"atomics_of_blocks", "an atomic update after a write (atomic within a block only"},
    {"atomic_of_one_block", "an atomic update after a write (atomic within a block only"},
    {"divergent_barrier", "divergent barrier"},
    {"barrier_of_some", "never complete"},
    {"early_exit", "early exit before a barrier"},
    {"early_exit_of_warp", "early exit before"},
    {"divergent_shuffle", "exit while lanes 0x0000ffff wait"},
    {"shuffle_of_missing_lane", "a shuffle reads lane 16, which takes no part"},
    {"wrong_mask", "whose mask 0x0000ffff does not name them"},
    {"host_pointer", "host pointer in a kernel"},
    {"unwaited_copy", "reads the destination of a cp.async before it has been waited for"},
    {"waited_by_another", "data race in shared memory: a read after a write"},
    {"read_only_but_written", "ld.global.nc"},
    {"unsupported", "unsupported instruction: the lanes that it names are not specified"},
    {"failed_assertion", "trap"},
};
INSTANTIATE_TEST_SUITE_P(Planted, Fault, ::testing::ValuesIn(kPlanted),
                         [](const auto& planted) { return std::string(planted.param.name); });

TEST(Faults, AnEndlessLoopIsCutShort) {
  DeviceArray<float> memory(std::vector<float>(16, 1.0f));
  setenv("KILN_EMULATOR_STEPS", "100000", 1);
  FindingCapture capture;
  launch_fault("endless_loop", memory.data(), nullptr, nullptr);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  unsetenv("KILN_EMULATOR_STEPS");
  ASSERT_EQ(capture.findings().size(), 1u);
  EXPECT_NE(capture.findings()[0].find("an endless loop?"), std::string::npos) << capture.all();
  cudaGetLastError();
}

TEST(Faults, FreedMemoryIsKnown) {
  float* freed = nullptr;
  cudaMalloc(reinterpret_cast<void**>(&freed), 400);
  cudaFree(freed);
  FindingCapture capture;
  launch_fill(freed, 1, 100, nullptr);
  cudaDeviceSynchronize();
  EXPECT_NE(capture.all().find("byte 0 of freed allocation"), std::string::npos) << capture.all();
  capture.clear();
  EXPECT_NE(cudaFree(freed), cudaSuccess);
  EXPECT_NE(capture.all().find("cudaFree of what is no live allocation"), std::string::npos) << capture.all();
  cudaGetLastError();
}

TEST(Faults, LaunchLimits) {
  DeviceArray<float> memory(2048);
  FindingCapture capture;
  const auto expect = [&](cudaError_t error, const char* message) {
    EXPECT_EQ(cudaGetLastError(), error);
    EXPECT_NE(capture.all().find(message), std::string::npos) << capture.all();
    EXPECT_NE(capture.all().find("faults.cu:"), std::string::npos) << capture.all();
    capture.clear();
  };
  launch_many_threads(memory.data(), 1025, 8192);
  expect(cudaErrorInvalidConfiguration, "a block of (1025,1,1) threads");
  launch_many_threads(memory.data(), 64, 49 * 1024);
  expect(cudaErrorInvalidValue, "50176 bytes of shared memory");
  launch_bounded(memory.data(), 65);
  expect(cudaErrorLaunchOutOfResources, "65 threads a block, but __launch_bounds__ promise at most 64");
  launch_fill(memory.data(), 1, 0, nullptr);
  expect(cudaErrorInvalidConfiguration, "a grid of (0,1,1) blocks");
  for (const dim3 grid : {dim3(1, 65536, 1), dim3(1, 1, 65536), dim3(1u << 31, 1, 1), dim3(1, 1, 0)}) {
    launch_grid(memory.data(), grid);
    expect(cudaErrorInvalidConfiguration,
           fmt::format("a grid of ({},{},{}) blocks", grid.x, grid.y, grid.z).c_str());
  }
  launch_grid(memory.data(), dim3(1, 65535, 1));
  launch_grid(memory.data(), dim3(1, 1, 65535));
  launch_many_threads(memory.data(), 1024, 4096);
  launch_bounded(memory.data(), 64);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(capture.all(), "");
}

// 48 KiB without asking, 163 KiB at most for a device of compute capability 8.0, static shared memory included.
TEST(Faults, SharedMemoryThatIsAskedFor) {
  DeviceArray<float> memory(2048);
  FindingCapture capture;
  const auto refused = [&](cudaError_t error, const char* message) {
    EXPECT_EQ(error, cudaErrorInvalidValue);
    EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
    EXPECT_NE(capture.all().find(message), std::string::npos) << capture.all();
    capture.clear();
  };
  refused(allow_shared(163 * 1024 + 1),
          "166913 bytes of dynamic and 0 of static shared memory; the limit is 166912");
  refused(allow_shared(-1), "-1 bytes of dynamic");
  refused(allow_shared_beside_static(163 * 1024), "166912 bytes of dynamic and 256 of static shared memory");
  EXPECT_EQ(allow_shared_beside_static(163 * 1024 - 256), cudaSuccess);
  launch_many_threads(memory.data(), 64, 49 * 1024);  // what was refused has raised nothing
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  capture.clear();
  EXPECT_EQ(allow_shared(163 * 1024), cudaSuccess);
  launch_many_threads(memory.data(), 64, 163 * 1024);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  launch_many_threads(memory.data(), 64, 163 * 1024 + 1);
  refused(cudaPeekAtLastError(), "166913 bytes of shared memory");
  EXPECT_EQ(capture.all(), "");
}

TEST(Faults, CopiesKnowTheirPointersAndBounds) {
  DeviceArray<float> memory(100);
  std::vector<float> host(200);
  FindingCapture capture;
  const auto expect = [&](cudaError_t error, const char* message) {
    EXPECT_EQ(error, cudaErrorInvalidValue);
    EXPECT_NE(capture.all().find(message), std::string::npos) << capture.all();
    capture.clear();
  };
  expect(cudaMemcpy(memory.data(), host.data(), 404, cudaMemcpyHostToDevice),
         "out of bounds: a copy host to device of 404");
  expect(cudaMemcpy(host.data(), memory.data(), 404, cudaMemcpyDeviceToHost),
         "out of bounds: a copy device to host of 404");
  expect(cudaMemcpy(host.data(), memory.data(), 4, cudaMemcpyHostToDevice),
         "the destination is a host pointer");
  expect(cudaMemcpy(host.data(), memory.data(), 4, cudaMemcpyHostToHost), "the source is a device pointer");
  expect(cudaMemset(memory.data(), 0, 404), "out of bounds: a memset of 404");
  expect(cudaMemset(host.data(), 0, 4), "the destination is a host pointer");
  cudaGetLastError();
}

TEST(FaultsDeathTest, WithoutACaptureTheProcessEnds) {
  DeviceArray<float> memory(std::vector<float>(4096, 1.0f));
  EXPECT_EXIT(
      {
        launch_fault("read_beyond", memory.data(), nullptr, nullptr);
        cudaDeviceSynchronize();
      },
      ::testing::ExitedWithCode(kFindingExit), "out of bounds");
}

TEST(FaultsDeathTest, HostCodeFollowsADevicePointer) {
  DeviceArray<float> memory(16);
  EXPECT_EXIT({ std::exit(static_cast<int>(*const_cast<volatile float*>(memory.data() + 3))); },
              ::testing::ExitedWithCode(kFindingExit),
              "host code follows a device pointer .into allocation [0-9]+, byte 12");
}

TEST(FaultsDeathTest, LeaksAtExit) {
  const auto leak = [](auto make) {
    EXPECT_EXIT(
        {
          make();
          std::exit(0);
        },
        ::testing::ExitedWithCode(kFindingExit), "leaked at exit");
  };
  leak([] {
    void* pointer = nullptr;
    cudaMalloc(&pointer, 100);
  });
  leak([] {
    void* pointer = nullptr;
    cudaMallocHost(&pointer, 100);
  });
  leak([] {
    cudaStream_t stream;
    cudaStreamCreate(&stream);
  });
  leak([] {
    cudaEvent_t event;
    cudaEventCreate(&event);
  });
  EXPECT_EXIT(std::exit(0), ::testing::ExitedWithCode(0), "");
}

}  // namespace

}  // namespace kiln::emulator::testing
