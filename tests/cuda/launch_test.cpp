// What is refused before anything is launched.
#include "src/device/cuda_check.h"
#include "tests/cuda/support.h"

namespace kiln::tests::launch_test {
namespace {

template <class Params>
void expect_refusal(Gpu& gpu, void (*kernel)(Context&, const Params&), const Params& p,
                    const std::string& words) {
  try {
    kernel(gpu.context(), p);
    ADD_FAILURE() << "launched: " << words;
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
  }
}

// Null would be CUDA's default stream.
TEST(CudaKernels, NeedAStream) {
  Gpu gpu;
  const Tensor x(gpu, DType::f32, std::vector<float>(4, 1.0f)), out(gpu, DType::f32, 4);
  const uint64_t version = 1;
  kernels::PackedWeight square{.weight = x.data(), .version = &version, .N = 2, .K = 2, .dtype = DType::f32};
  gpu.context().stream = nullptr;
  const std::string words = "without a stream";
  expect_refusal(gpu, kernels::gelu_forward, {out.data(), x.data(), 4, DType::f32}, words);
  expect_refusal(gpu, kernels::linear_forward,
                 {out.data(), x.data(), &square, nullptr, 2, 2, 2, 2, DType::f32}, words);
}

TEST(CudaCheck, TakesAsManyBlocksAsCudaAndNoMore) {
  constexpr int64_t kMostX = 2147483647, kMostY = 65535;  // CUDA C++ Programming Guide, compute capabilities
  EXPECT_NO_THROW(check_grid(kMostX, kMostY, "it"));
  EXPECT_THROW(check_grid(kMostX + 1, 1, "it"), Error);
  EXPECT_THROW(check_grid(1, kMostY + 1, "it"), Error);
}

// A multiple of 2^32 blocks: cut off to 32 bits there would be none, and nothing would be computed.
TEST(CudaKernels, RefuseMoreBlocksThanCudaLaunches) {
  Gpu gpu;
  constexpr int64_t kRows = int64_t{1} << 35, kElements = int64_t{1} << 43;
  const std::string words = "blocks at once";
  void* none = nullptr;
  for (DType dtype : kBothTypes) {
    expect_refusal(gpu, kernels::layernorm_forward,
                   {none, nullptr, nullptr, none, none, none, kRows, 8, 1e-5f, dtype}, words);
    expect_refusal(gpu, kernels::rmsnorm_forward, {none, nullptr, none, none, kRows, 8, 1e-5f, dtype}, words);
    expect_refusal(gpu, kernels::gelu_forward, {none, none, kElements, dtype}, words);
    expect_refusal(gpu, kernels::gelu_backward, {none, none, none, kElements, dtype}, words);
    expect_refusal(gpu, kernels::residual_forward, {none, none, none, kElements, dtype}, words);
    expect_refusal(gpu, kernels::swiglu_forward, {none, none, kRows, 8, dtype}, words);
    expect_refusal(gpu, kernels::swiglu_backward, {none, none, none, kRows, 8, dtype}, words);
    expect_refusal(gpu, kernels::swiglu_forward, {none, none, 1, kElements, dtype}, words);
    expect_refusal(gpu, kernels::softmax_cross_entropy,
                   {none, nullptr, nullptr, kRows, 7, 8, 8, 1.0f, true, dtype}, words);
  }
}

}  // namespace
}  // namespace kiln::tests::launch_test
