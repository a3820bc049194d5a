#include "tests/cuda/support.h"
#include "tests/kernels/bounds_norm.h"

namespace kiln::tests::rmsnorm_test {
namespace {

constexpr float kEps = 1e-6f;

struct Input {
  const char* name;
  int64_t rows, C;
  double deviation;
};
constexpr Input kInputs[] = {{"unit", 5, 1, 1},        {"pair", 64, 2, 1},     {"seven", 1, 7, 1},
                             {"eight", 9, 8, 1},       {"small", 5, 31, 1e-3}, {"one more", 5, 65, 1},
                             {"prime", 9, 97, 30},     {"wide", 7, 768, 1},    {"wider", 3, 2056, 1},
                             {"many rows", 131, 40, 1}};

size_t index(int64_t i) {
  return static_cast<size_t>(i);
}

TEST(CudaRmsNorm, ForwardMatchesReference) {
  Gpu gpu;
  for (DType dtype : kBothTypes) {
    for (const Input& input : kInputs) {
      SCOPED_TRACE(fmt::format("{} {}", name_of(dtype), input.name));
      const int64_t rows = input.rows, C = input.C;
      const auto in = gpu_values(rows * C, input.name, dtype, input.deviation),
                 weight = gpu_values(C, "weight", dtype);
      const Tensor x(gpu, dtype, in), w(gpu, dtype, weight), out(gpu, dtype, rows * C),
          rstd(gpu, DType::f32, rows);
      gpu.run(kernels::rmsnorm_forward, kernels::RmsNormForward{out.data(), static_cast<float*>(rstd.data()),
                                                                x.data(), w.data(), rows, C, kEps, dtype});
      const auto expected =
          reference::rmsnorm_forward(to_double(in), to_double(weight), rows, C, static_cast<double>(kEps));
      const double error = rmsnorm_rstd_relative_error(C, kRootOnCuda);
      expect_close("rstd", rstd.read(gpu), expected.rstd, DType::f32,
                   [&](int64_t i) { return expected.rstd[index(i)] * error; });
      // Two rounded products more.
      expect_close("out", out.read(gpu), expected.out, dtype,
                   [&](int64_t i) { return std::fabs(expected.out[index(i)]) * (error + 2 * kUnit); });
    }
  }
}

// d_in in a place of its own, then in that of d_residual and of d_out: the same bits.
TEST(CudaRmsNorm, BackwardMatchesReferenceAlsoInPlace) {
  Gpu gpu;
  for (DType dtype : kBothTypes) {
    for (const Input& input : kInputs) {
      for (bool residual : {true, false}) {
        SCOPED_TRACE(fmt::format("{} {} residual={}", name_of(dtype), input.name, residual));
        const int64_t rows = input.rows, C = input.C, n = rows * C;
        const auto in = gpu_values(n, input.name, dtype, input.deviation),
                   weight = gpu_values(C, "weight", dtype), d_out = gpu_values(n, "d_out", dtype),
                   d_residual = gpu_values(n, "d_residual", dtype),
                   before = gpu_values(C, "d_weight", DType::f32);
        const auto forward =
            reference::rmsnorm_forward(to_double(in), to_double(weight), rows, C, static_cast<double>(kEps));
        const std::vector<float> rstds(forward.rstd.begin(), forward.rstd.end());
        auto d_in = residual ? to_double(d_residual) : std::vector<double>(index(n)),
             d_weight = to_double(before);
        const auto bounds = rmsnorm_backward_bounds(forward, to_double(in), to_double(weight),
                                                    to_double(d_out), d_in, d_weight, rows, C);
        reference::rmsnorm_backward(forward, to_double(in), to_double(weight), to_double(d_out), rows, C,
                                    d_in, d_weight);

        const Tensor x(gpu, dtype, in), w(gpu, dtype, weight), rstd(gpu, DType::f32, rstds);
        std::vector<float> first;
        for (int place = 0; place < (residual ? 3 : 1); place++) {
          const Tensor d(gpu, dtype, d_out), r(gpu, dtype, d_residual), own(gpu, dtype, n),
              sums(gpu, DType::f32, before);
          const Tensor& to = place == 0 ? own : place == 1 ? r : d;
          gpu.run(kernels::rmsnorm_backward,
                  kernels::RmsNormBackward{to.data(), static_cast<float*>(sums.data()), d.data(),
                                           residual ? r.data() : nullptr, x.data(),
                                           static_cast<float*>(rstd.data()), w.data(), rows, C, dtype});
          const auto actual = to.read(gpu);
          if (place == 0) first = actual;
          EXPECT_EQ(actual, first) << place;
          expect_close("d_in", actual, d_in, dtype, [&](int64_t i) { return bounds.d_in[index(i)]; });
          expect_close("d_weight", sums.read(gpu), d_weight, DType::f32,
                       [&](int64_t c) { return bounds.d_weight[index(c)]; });
        }
      }
    }
  }
}

}  // namespace
}  // namespace kiln::tests::rmsnorm_test
