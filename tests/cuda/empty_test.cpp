// Of no rows at all every kernel makes nothing, and CUDA is not asked to launch nothing.
#include "tests/cuda/support.h"

namespace kiln::tests::empty_test {
namespace {

TEST(CudaKernels, TakeNoRows) {
  Gpu gpu;
  const std::vector<float> ones(8, 1.0f);
  for (DType dtype : kBothTypes) {
    const Tensor weight(gpu, dtype, ones), sums(gpu, DType::f32, ones), more(gpu, DType::f32, ones);
    auto* d_weight = static_cast<float*>(sums.data());
    auto* d_bias = static_cast<float*>(more.data());
    void* none = nullptr;
    const uint64_t version = 1;
    kernels::PackedWeight square{
        .weight = weight.data(), .version = &version, .N = 2, .K = 4, .dtype = dtype};
    gpu.run(kernels::layernorm_forward,
            {none, nullptr, nullptr, none, weight.data(), weight.data(), 0, 8, 1e-5f, dtype});
    gpu.run(kernels::layernorm_backward,
            {none, d_weight, d_bias, none, none, none, nullptr, nullptr, weight.data(), 0, 8, dtype});
    gpu.run(kernels::rmsnorm_forward, {none, nullptr, none, weight.data(), 0, 8, 1e-5f, dtype});
    gpu.run(kernels::rmsnorm_backward,
            {none, d_weight, none, none, none, nullptr, weight.data(), 0, 8, dtype});
    gpu.run(kernels::gelu_forward, {none, none, 0, dtype});
    gpu.run(kernels::gelu_backward, {none, none, none, 0, dtype});
    gpu.run(kernels::swiglu_forward, {none, none, 0, 8, dtype});
    gpu.run(kernels::swiglu_backward, {none, none, none, 0, 8, dtype});
    gpu.run(kernels::residual_forward, {none, none, none, 0, dtype});
    gpu.run(kernels::softmax_cross_entropy, {none, nullptr, nullptr, 0, 7, 8, 8, 1.0f, true, dtype});
    gpu.run(kernels::linear_forward, {none, none, &square, none, 0, 2, 4, 2, dtype});
    gpu.run(kernels::linear_backward_input, {none, none, &square, 0, 2, 4, 2, false, dtype});
    gpu.run(kernels::linear_backward_weight, {d_weight, d_bias, none, none, 0, 2, 4, 2, dtype});
    EXPECT_EQ(sums.read(gpu), ones);
    EXPECT_EQ(more.read(gpu), ones);
  }
}

}  // namespace
}  // namespace kiln::tests::empty_test
