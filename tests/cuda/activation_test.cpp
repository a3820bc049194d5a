#include "tests/cuda/support.h"
#include "tests/kernels/reference_activation.h"

namespace kiln::tests::activation_test {
namespace {

// Tails of every length, fewer elements than a vector, and several blocks of each width.
constexpr int64_t kSizes[] = {1, 2, 3, 7, 8, 9, 15, 16, 31, 97, 768, 2053, 4099};
constexpr double kReference =
    0x1p-52;                        // 1 + tanh(u) in fp64 is rounded: the reference errs by |x| times this
constexpr double kTiny = 0x1p-125;  // exponentials below it may be flushed to zero

// Errors of 1 / (1 + exp(-t)) in the kernels: expf of a negative argument errs by 2 ulp, that is 4 u, and __fdividef by
// as much; `argument`: relative error of t. d log s = d log e / (1 + exp(t)) for either sign; a rounded sum, the
// division, and for t < 0 a product.
double exponential_error(double t, double argument) {
  return 4 * kUnit + argument * std::fabs(t);
}
double logistic_error(double t, double argument) {
  return exponential_error(t, argument) / (1 + std::exp(t)) + 6 * kUnit;
}
// s (1 - s): the exponential's error enters once at most, everything else twice, and a rounded product.
double slope_error(double t, double argument) {
  return exponential_error(t, argument) + 13 * kUnit;
}

// 2 u of GELU's tanh form: 0.5 (1 + tanh(u)) = 1 / (1 + exp(-2u)). Seven rounded constants and operations of one sign.
double two_u(double x) {
  return 2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
}
constexpr double kArgument = 7 * kUnit;

double gelu_bound(double x) {
  return std::fabs(reference::gelu(x)) * (logistic_error(two_u(x), kArgument) + kUnit) +
         std::fabs(x) * (kReference + kTiny);
}
// s + x (2u)' s (1 - s): of the second factor two constants, square, product and sum; two more products; a sum.
double gelu_derivative_bound(double x) {
  const double t = two_u(x), s = 1 / (1 + std::exp(-t));
  const double slope = 2 * std::sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
  const double second = std::fabs(x) * slope * s / (1 + std::exp(t));
  return s * (logistic_error(t, kArgument) + kUnit) +
         (std::isfinite(second) ? second : 0) * (slope_error(t, kArgument) + 8 * kUnit) + kReference +
         (std::fabs(x) < 20 ? std::fabs(x) * slope * kTiny : 0);
}

// Draws around zero, where everything happens, and the far ends.
std::vector<float> inputs(int64_t n, DType dtype) {
  std::vector<float> x = gpu_values(n, "in", dtype, 2);
  constexpr float kFar[] = {0.0f,  -0.0f,  1e-30f, -1e-30f, 5.0f,  -5.0f,  9.4f,   -9.4f,
                            9.6f,  -9.6f,  10.2f,  -10.2f,  12.0f, -12.0f, 100.0f, -100.0f,
                            1e10f, -1e10f, 1e20f,  -1e20f,  3e38f, -3e38f};
  for (size_t i = 0; i < std::size(kFar) && i < x.size(); i++) x[x.size() - 1 - i] = kFar[i];
  return rounded(std::move(x), dtype);
}

struct Shape {
  int64_t n, offset;
};
std::vector<Shape> shapes() {
  std::vector<Shape> all{{97, 1}, {1000, 3}};  // vectors do not fit where tensors begin
  for (int64_t n : kSizes) all.push_back({n, 0});
  return all;
}

TEST(CudaGelu, ForwardMatchesReference) {
  Gpu gpu;
  for (DType dtype : kBothTypes) {
    for (const auto& [n, offset] : shapes()) {
      SCOPED_TRACE(fmt::format("{} n={} offset={}", name_of(dtype), n, offset));
      const auto in = inputs(n, dtype);
      const Tensor x(gpu, dtype, in, offset), out(gpu, dtype, n, offset);
      gpu.run(kernels::gelu_forward, kernels::GeluForward{out.data(), x.data(), n, dtype});
      std::vector<double> expected;
      for (float v : in) expected.push_back(reference::gelu(v));
      expect_close("out", out.read(gpu), expected, dtype,
                   [&](int64_t i) { return gelu_bound(in[static_cast<size_t>(i)]); });
    }
  }
}

TEST(CudaGelu, BackwardMatchesReferenceAlsoInPlace) {
  Gpu gpu;
  for (DType dtype : kBothTypes) {
    for (const auto& [n, offset] : shapes()) {
      SCOPED_TRACE(fmt::format("{} n={} offset={}", name_of(dtype), n, offset));
      const auto in = inputs(n, dtype), d = gpu_values(n, "d_out", dtype);
      const Tensor x(gpu, dtype, in, offset), d_out(gpu, dtype, d, offset), d_in(gpu, dtype, n, offset);
      gpu.run(kernels::gelu_backward, kernels::GeluBackward{d_in.data(), d_out.data(), x.data(), n, dtype});
      std::vector<double> expected;
      for (size_t i = 0; i < in.size(); i++) expected.push_back(d[i] * reference::gelu_derivative(in[i]));
      expect_close("d_in", d_in.read(gpu), expected, dtype, [&](int64_t at) {
        const auto i = static_cast<size_t>(at);
        return std::fabs(d[i]) * gelu_derivative_bound(in[i]) + kUnit * std::fabs(expected[i]);
      });
      gpu.run(kernels::gelu_backward, kernels::GeluBackward{d_out.data(), d_out.data(), x.data(), n, dtype});
      EXPECT_EQ(d_out.read(gpu), d_in.read(gpu));
    }
  }
}

TEST(CudaGelu, KeepsNaN) {
  Gpu gpu;
  for (DType dtype : kBothTypes) {
    const Tensor in(gpu, dtype, std::vector<float>(33, std::nanf(""))),
        d_out(gpu, dtype, std::vector<float>(33, 1.0f)), out(gpu, dtype, 33), d_in(gpu, dtype, 33);
    gpu.run(kernels::gelu_forward, kernels::GeluForward{out.data(), in.data(), 33, dtype});
    gpu.run(kernels::gelu_backward, kernels::GeluBackward{d_in.data(), d_out.data(), in.data(), 33, dtype});
    for (float x : out.read(gpu)) EXPECT_TRUE(std::isnan(x)) << name_of(dtype);
    for (float x : d_in.read(gpu)) EXPECT_TRUE(std::isnan(x)) << name_of(dtype);
  }
}

// One rounded addition, also where the output is one of the operands.
TEST(CudaResidual, MatchesReferenceAlsoInPlace) {
  Gpu gpu;
  for (DType dtype : kBothTypes) {
    for (const auto& [n, offset] : shapes()) {
      SCOPED_TRACE(fmt::format("{} n={} offset={}", name_of(dtype), n, offset));
      const auto a = gpu_values(n, "a", dtype), b = gpu_values(n, "b", dtype);
      std::vector<float> expected;
      for (size_t i = 0; i < a.size(); i++) expected.push_back(a[i] + b[i]);
      expected = rounded(std::move(expected), dtype);
      const Tensor x(gpu, dtype, a, offset), y(gpu, dtype, b, offset), out(gpu, dtype, n, offset);
      gpu.run(kernels::residual_forward, kernels::ResidualForward{out.data(), x.data(), y.data(), n, dtype});
      EXPECT_EQ(out.read(gpu), expected);
      gpu.run(kernels::residual_forward, kernels::ResidualForward{x.data(), x.data(), y.data(), n, dtype});
      EXPECT_EQ(x.read(gpu), expected);
    }
  }
}

constexpr struct {
  int64_t rows, F;
} kSwiglu[] = {{1, 1}, {3, 2}, {7, 7}, {5, 8}, {4, 15}, {9, 16}, {3, 97}, {5, 264}, {2, 2056}};

double silu(double x) {
  return x / (1 + std::exp(-x));
}
double silu_derivative(double x) {
  const double s = 1 / (1 + std::exp(-x));
  return s + x * s / (1 + std::exp(x));  // 1 - s without cancellation
}
double silu_bound(double x) {
  return std::fabs(silu(x)) * (logistic_error(x, 0) + kUnit) +
         (std::fabs(x) < 1e3 ? std::fabs(x) : 0) * kTiny;
}
// s + x s (1 - s): a product, a sum.
double silu_derivative_bound(double x) {
  const double s = 1 / (1 + std::exp(-x)), second = std::fabs(x) * s / (1 + std::exp(x));
  return s * (logistic_error(x, 0) + kUnit) + second * (slope_error(x, 0) + 2 * kUnit) + 1e-35;
}

// Gates around zero and the far ends; ups of order one.
std::vector<float> swiglu_inputs(int64_t rows, int64_t F, DType dtype) {
  std::vector<float> x = gpu_values(rows * 2 * F, "in", dtype, 2);
  constexpr float kFar[] = {0.0f,   -0.0f, 1e-30f, -5.0f,   20.0f,    -20.0f, 86.9f,
                            -86.9f, 88.0f, -88.0f, 1000.0f, -1000.0f, 1e37f,  -1e37f};
  for (int64_t i = 0; i < static_cast<int64_t>(std::size(kFar)) && i < F; i++)
    x[static_cast<size_t>(F - 1 - i)] = kFar[i];
  return rounded(std::move(x), dtype);
}

TEST(CudaSwiglu, MatchesReferenceAlsoInPlace) {
  Gpu gpu;
  for (DType dtype : kBothTypes) {
    for (const auto& [rows, F] : kSwiglu) {
      SCOPED_TRACE(fmt::format("{} rows={} F={}", name_of(dtype), rows, F));
      const auto in = swiglu_inputs(rows, F, dtype), d = gpu_values(rows * F, "d_out", dtype);
      const Tensor x(gpu, dtype, in), d_out(gpu, dtype, d), out(gpu, dtype, rows * F),
          d_in(gpu, dtype, rows * 2 * F);
      gpu.run(kernels::swiglu_forward, kernels::SwigluForward{out.data(), x.data(), rows, F, dtype});
      gpu.run(kernels::swiglu_backward,
              kernels::SwigluBackward{d_in.data(), d_out.data(), x.data(), rows, F, dtype});
      std::vector<double> expected(d.size()), bound(d.size()), gradient(in.size()), gradient_bound(in.size());
      for (int64_t at = 0; at < rows * F; at++) {
        const auto i = static_cast<size_t>(at), g = static_cast<size_t>(at / F * 2 * F + at % F),
                   u = g + static_cast<size_t>(F);
        const double gate = in[g], up = in[u], dy = d[i];
        expected[i] = silu(gate) * up;
        bound[i] = silu_bound(gate) * std::fabs(up) + kUnit * std::fabs(expected[i]);
        gradient[g] = dy * up * silu_derivative(gate);
        gradient_bound[g] =
            std::fabs(dy * up) * silu_derivative_bound(gate) + 2 * kUnit * std::fabs(gradient[g]);
        gradient[u] = dy * silu(gate);
        gradient_bound[u] = std::fabs(dy) * silu_bound(gate) + kUnit * std::fabs(gradient[u]);
      }
      expect_close("out", out.read(gpu), expected, dtype,
                   [&](int64_t i) { return bound[static_cast<size_t>(i)]; });
      expect_close("d_in", d_in.read(gpu), gradient, dtype,
                   [&](int64_t i) { return gradient_bound[static_cast<size_t>(i)]; });
      gpu.run(kernels::swiglu_backward,
              kernels::SwigluBackward{x.data(), d_out.data(), x.data(), rows, F, dtype});
      EXPECT_EQ(x.read(gpu), d_in.read(gpu));
    }
  }
}

}  // namespace
}  // namespace kiln::tests::activation_test
