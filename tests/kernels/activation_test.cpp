#include "tests/kernels/reference_activation.h"
#include "tests/kernels/support.h"

namespace kiln::tests {
namespace {

constexpr int64_t kSizes[] = {1,  2,  3,  7,  15,  16,    17,
                              31, 64, 65, 97, 768, 100003};  // the last spans several tasks
constexpr double kReference =
    0x1p-52;  // 1 + tanh(u) in fp64 is rounded: the reference errs by |x| times this

// 2 u of the tanh form: 0.5 (1 + tanh(u)) = 1 / (1 + exp(-2u)).
double two_u(double x) {
  return 2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
}

// Relative error of e = exp(-2u): the argument's seven rounded constants and operations have one sign, and
// turn into 7 u |2u| by the exponential's slope; the exponential itself errs by 2 ulp, that is 4 u at most.
double exponential_error(double x) {
  return (4 + 7 * std::fabs(two_u(x))) * kUnit;
}
// Of 1 / (1 + e): e's share of the sum, a rounded sum, a rounded division. e may be infinite.
double logistic_error(double x) {
  return exponential_error(x) / (1 + std::exp(two_u(x))) + 2 * kUnit;
}

double gelu_bound(double x) {
  return std::fabs(reference::gelu(x)) * (logistic_error(x) + kUnit) + std::fabs(x) * kReference;
}

// s + x (2u)' s (e s): s as above; in the second term two slope constants, a square, product, sum, then four
// products, three s and e errors; one rounded sum.
double derivative_bound(double x) {
  const double s = 1 / (1 + std::exp(-two_u(x)));
  const double slope = 2 * std::sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
  const double second = std::fabs(x) * slope * s / (1 + std::exp(two_u(x)));
  const double relative = 10 * kUnit + 2 * logistic_error(x) + exponential_error(x);
  return s * (logistic_error(x) + kUnit) + (std::isfinite(second) ? second : 0) * (relative + kUnit) +
         kReference;
}

// Draws around zero, where everything happens, and the far ends.
Guarded<float> inputs(int64_t n) {
  Guarded<float> x = normal(n, "in", 2);
  constexpr float kFar[] = {0.0f,  -0.0f,  1e-30f, -1e-30f, 5.0f,  -5.0f,  9.4f,   -9.4f,
                            9.6f,  -9.6f,  10.2f,  -10.2f,  12.0f, -12.0f, 100.0f, -100.0f,
                            1e10f, -1e10f, 1e20f,  -1e20f,  3e38f, -3e38f};
  for (int64_t i = 0; i < static_cast<int64_t>(std::size(kFar)) && i < n; i++) x[n - 1 - i] = kFar[i];
  return x;
}

TEST(Gelu, ForwardMatchesReference) {
  for (Isa isa : isas()) {
    Runner runner(isa, 2);
    for (int64_t n : kSizes) {
      SCOPED_TRACE(fmt::format("{} n={}", name_of(isa), n));
      const auto in = inputs(n);
      Guarded<float> out(n);
      runner.run(kernels::gelu_forward, kernels::GeluForward{out.data(), in.data(), n, DType::f32});
      std::vector<double> expected;
      for (float x : in) expected.push_back(reference::gelu(x));
      expect_close("out", out, expected, [&](int64_t i) { return gelu_bound(in[i]); });
    }
  }
}

TEST(Gelu, BackwardMatchesReferenceAlsoInPlace) {
  for (Isa isa : isas()) {
    Runner runner(isa, 2);
    for (int64_t n : kSizes) {
      SCOPED_TRACE(fmt::format("{} n={}", name_of(isa), n));
      const auto in = inputs(n);
      auto d_out = normal(n, "d_out");
      Guarded<float> d_in(n);
      runner.run(kernels::gelu_backward,
                 kernels::GeluBackward{d_in.data(), d_out.data(), in.data(), n, DType::f32});
      std::vector<double> expected;
      for (int64_t i = 0; i < n; i++) expected.push_back(d_out[i] * reference::gelu_derivative(in[i]));
      expect_close("d_in", d_in, expected, [&](int64_t i) {
        return std::fabs(d_out[i]) * derivative_bound(in[i]) +
               kUnit * std::fabs(expected[static_cast<size_t>(i)]);
      });
      runner.run(kernels::gelu_backward,
                 kernels::GeluBackward{d_out.data(), d_out.data(), in.data(), n, DType::f32});
      EXPECT_TRUE(d_out.same_bits(d_in));
    }
  }
}

// Far below zero the reference drowns in its rounding, while x / (1 + e) shows the kernels' exponential at
// large arguments: accurate up to the largest float, infinite beyond it, so that gelu becomes (minus) zero
// and not NaN.
TEST(Gelu, FarTailKeepsItsAccuracy) {
  const int64_t n = 100003;
  Guarded<float> in(n), out(n);
  for (int64_t i = 0; i < n; i++) in[i] = -4.0f - 6.5f * static_cast<float>(i) / static_cast<float>(n);
  std::vector<double> expected;
  for (float x : in) expected.push_back(x / (1 + std::exp(-two_u(x))));
  for (Isa isa : isas()) {
    Runner runner(isa, 2);
    runner.run(kernels::gelu_forward, kernels::GeluForward{out.data(), in.data(), n, DType::f32});
    // Within the argument's error of ln(FLT_MAX) the exponential may or may not be infinite.
    const double largest = std::log(static_cast<double>(std::numeric_limits<float>::max()));
    int64_t infinite = 0;
    for (int64_t i = 0; i < n; i++) {
      const double argument = -two_u(in[i]), error = 7 * kUnit * argument;
      if (argument > largest + error) {
        ASSERT_EQ(out[i], 0.0f) << name_of(isa) << " " << in[i];
        infinite++;
      } else if (argument < largest - error) {
        const double e = expected[static_cast<size_t>(i)];
        ASSERT_NEAR(out[i], e, std::fabs(e) * (logistic_error(in[i]) + kUnit))
            << name_of(isa) << " " << in[i];
      }
    }
    EXPECT_GT(infinite, 0);
  }
}

TEST(Gelu, KeepsNaN) {
  for (Isa isa : isas()) {
    Runner runner(isa, 1);
    const Guarded<float> in(33, std::nanf("")), d_out(33, 1.0f);
    Guarded<float> out(33, 0.0f), d_in(33, 0.0f);
    runner.run(kernels::gelu_forward, kernels::GeluForward{out.data(), in.data(), 33, DType::f32});
    runner.run(kernels::gelu_backward,
               kernels::GeluBackward{d_in.data(), d_out.data(), in.data(), 33, DType::f32});
    for (int64_t i = 0; i < 33; i++) EXPECT_TRUE(std::isnan(out[i]) && std::isnan(d_in[i])) << name_of(isa);
  }
}

// The reference itself: truncation h^2 / 6 times a third derivative of order one, and rounding, both below
// 1e-9.
TEST(Gelu, ReferenceDerivativeIsNumericDerivative) {
  for (double x : {-8.0, -3.0, -1.0, -0.3, 0.0, 1e-3, 0.7, 2.0, 4.0, 9.0}) {
    const double derivative = reference::gelu_derivative(x);
    EXPECT_NEAR(derivative, central_difference([&] { return reference::gelu(x); }, x), 1e-9) << x;
  }
}

// One rounded addition, also where the output is one of the operands.
TEST(Residual, MatchesReferenceAlsoInPlace) {
  for (Isa isa : isas()) {
    Runner runner(isa, 2);
    for (int64_t n : kSizes) {
      SCOPED_TRACE(fmt::format("{} n={}", name_of(isa), n));
      auto a = normal(n, "a"), b = normal(n, "b");
      Guarded<float> out(n);
      runner.run(kernels::residual_forward,
                 kernels::ResidualForward{out.data(), a.data(), b.data(), n, DType::f32});
      for (int64_t i = 0; i < n; i++) ASSERT_EQ(out[i], a[i] + b[i]);
      Guarded<float> first = a;
      runner.run(kernels::residual_forward,
                 kernels::ResidualForward{first.data(), first.data(), b.data(), n, DType::f32});
      runner.run(kernels::residual_forward,
                 kernels::ResidualForward{b.data(), a.data(), b.data(), n, DType::f32});
      EXPECT_TRUE(first.same_bits(out) && b.same_bits(out));
    }
  }
}

TEST(Activation, DoesNotDependOnThreads) {
  const int64_t n = 100003;
  const auto in = inputs(n), d_out = normal(n, "d_out");
  for (Isa isa : isas()) {
    Guarded<float> forward(n), backward(n), residual(n);
    for (int threads : {1, 2, 3}) {
      Runner runner(isa, threads);
      Guarded<float> f(n), b(n), r(n);
      runner.run(kernels::gelu_forward, kernels::GeluForward{f.data(), in.data(), n, DType::f32});
      runner.run(kernels::gelu_backward,
                 kernels::GeluBackward{b.data(), d_out.data(), in.data(), n, DType::f32});
      runner.run(kernels::residual_forward,
                 kernels::ResidualForward{r.data(), in.data(), d_out.data(), n, DType::f32});
      if (threads == 1) {
        std::memcpy(forward.data(), f.data(), n * sizeof(float));
        std::memcpy(backward.data(), b.data(), n * sizeof(float));
        std::memcpy(residual.data(), r.data(), n * sizeof(float));
      }
      EXPECT_TRUE(f.same_bits(forward) && b.same_bits(backward) && r.same_bits(residual)) << name_of(isa);
    }
  }
}

}  // namespace
}  // namespace kiln::tests
