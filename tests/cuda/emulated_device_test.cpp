// What the device layer does on machines that lack something, and that its tests would notice if order were missing: the
// emulator stands for those machines and finds that.
#include <cuda_runtime_api.h>

#include <cstdlib>

#include "src/device/memory.h"
#include "src/device/plan.h"
#include "tests/cuda/support.h"
#include "tests/cuda_emulator/findings.h"

namespace kiln::tests::emulated_device_test {
namespace {

using emulator::FindingCapture;

// A call that fails once, after as many that do not; 0: none fails.
struct Failure {
  int at = 0;
  bool is_due() { return at > 0 && --at == 0; }
};
Failure of_malloc, of_memset;

}  // namespace

// The linker puts these in the place of the emulator's (--wrap).
extern "C" {
cudaError_t __real_cudaMalloc(void** pointer, size_t bytes);
cudaError_t __wrap_cudaMalloc(void** pointer, size_t bytes);
cudaError_t __real_cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream);
cudaError_t __wrap_cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream);
cudaError_t __real_cudaSetDevice(int device);
cudaError_t __wrap_cudaSetDevice(int device);

cudaError_t __wrap_cudaMalloc(void** pointer, size_t bytes) {
  return of_malloc.is_due() ? cudaErrorMemoryAllocation : __real_cudaMalloc(pointer, bytes);
}
cudaError_t __wrap_cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return of_memset.is_due() ? cudaErrorLaunchFailure : __real_cudaMemsetAsync(to, value, bytes, stream);
}
// For program.py: a GPU that is there, but does not work.
cudaError_t __wrap_cudaSetDevice(int device) {
  return std::getenv("KILN_TEST_BROKEN_GPU") ? cudaErrorDevicesUnavailable : __real_cudaSetDevice(device);
}
}

namespace {

// A variable of the environment, while it lives.
class Setting {
 public:
  Setting(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
  ~Setting() { ::unsetenv(name_); }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;

 private:
  const char* name_;
};

void expect_refusal(const std::string& sentence) {
  EXPECT_NE(cuda_versions().find(sentence), std::string::npos) << cuda_versions();
  try {
    cuda_device();
    ADD_FAILURE() << "found a device";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::device);
    EXPECT_EQ(error.what(), sentence);
    EXPECT_NE(error.hint().find("device.kind"), std::string::npos) << error.hint();
  }
}

TEST(CudaObstacle, NoDriverIsOnePlainSentence) {
  const Setting none("KILN_EMULATOR_DEVICES", "-1");
  expect_refusal("no CUDA driver on this machine");
}

TEST(CudaObstacle, NoDeviceIsOnePlainSentence) {
  const Setting none("KILN_EMULATOR_DEVICES", "0");
  expect_refusal("no CUDA device on this machine");
}

TEST(CudaObstacle, AnOldDeviceIsRefusedWithItsCapability) {
  const Setting old("KILN_EMULATOR_CAPABILITY", "75");
  EXPECT_NE(cuda_versions().find("sm_75"), std::string::npos) << cuda_versions();
  try {
    cuda_device();
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::device);
    EXPECT_NE(std::string(error.what()).find("has compute capability 7.5; kiln needs 8.0 or later"),
              std::string::npos)
        << error.what();
  }
}

// Without the event that CudaStream.EventsOrderStreams has, the copy would read too early.
TEST(CudaStream, AMissingEventIsFound) {
  Gpu gpu;
  CudaStream other;
  const std::vector<float> ones(64, 1.0f);
  const Tensor a(gpu, DType::f32, ones), sum(gpu, DType::f32, 64);
  gpu.stream().synchronize();
  FindingCapture capture;
  kernels::residual_forward(gpu.context(), {sum.data(), a.data(), a.data(), 64, DType::f32});
  CudaStaging staging(1 << 12);
  std::vector<float> seen(ones.size());
  try {
    staging.download(seen.data(), sum.data(), seen.size() * 4, other);
  } catch (const Error&) {
  }
  EXPECT_NE(seen, std::vector<float>(64, 2.0f));
  try {
    gpu.stream().synchronize();
  } catch (const Error&) {
  }
  EXPECT_FALSE(capture.findings().empty());
}

// What was allocated before something failed is given back: as much is free as before, and no leak is found at exit.
TEST(CudaArena, KeepsNothingWhenACallInTheMiddleFails) {
  Gpu gpu;
  const size_t before = cuda_memory_left();
  of_memset.at = 1;
  EXPECT_THROW(cuda_allocate_zeroed(1000), Error);
  EXPECT_EQ(cuda_memory_left(), before);

  Plan plan;
  for (const char* name : {"first", "second", "third"}) plan.add(name, Category::gradients, 3000);
  for (ArenaMode mode : {ArenaMode::slab, ArenaMode::discrete}) {
    for (int call = 1; call <= (mode == ArenaMode::slab ? 1 : 3); call++) {
      of_memset.at = call;
      EXPECT_THROW(Arena(plan, mode, cuda_device()), Error) << "clearing " << call;
      EXPECT_EQ(cuda_memory_left(), before) << "clearing " << call;
      of_malloc.at = call;
      EXPECT_THROW(Arena(plan, mode, cuda_device()), OutOfMemory) << "allocation " << call;
      EXPECT_EQ(cuda_memory_left(), before) << "allocation " << call;
    }
  }
  EXPECT_EQ(of_memset.at + of_malloc.at, 0) << "a call that was never made";
}

// One element too many: in an allocation of its own it is seen, in the middle of a slab it could not be.
TEST(CudaArena, DiscreteBuffersShowOverruns) {
  Gpu gpu;
  const Tensor in(gpu, DType::f32, std::vector<float>(4, 1.0f)), out(gpu, DType::f32, 4);
  gpu.stream().synchronize();
  FindingCapture capture;
  EXPECT_THROW(gpu.run(kernels::gelu_forward, kernels::GeluForward{out.data(), in.data(), 5, DType::f32}),
               Error);
  EXPECT_NE(capture.all().find("activation.cu"), std::string::npos) << capture.all();
}

TEST(CudaCheck, ErrorsCarryWhatWasDoneAndTheNameAndAdvice) {
  Gpu gpu;
  FindingCapture capture;
  const int on_the_host[4] = {};
  int to[4];
  try {
    gpu.download(to, on_the_host, sizeof to);
    ADD_FAILURE() << "copied from the host as if it were the device";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::device);
    EXPECT_EQ(std::string(error.what()).find("copying from the GPU: "), 0u) << error.what();
    EXPECT_NE(std::string(error.what()).find("(cudaError"), std::string::npos) << error.what();
    EXPECT_FALSE(error.hint().empty());
  }
}

}  // namespace
}  // namespace kiln::tests::emulated_device_test
