#include "tests/kernels/support.h"

namespace kiln::tests {
namespace {

struct Shape {
  int64_t rows, F;
};
constexpr Shape kShapes[] = {{1, 1},    {3, 2},   {7, 7},  {64, 15},  {5, 16},
                             {129, 17}, {31, 64}, {5, 97}, {257, 768}};

double silu(double x) {
  return x / (1 + std::exp(-x));
}
double silu_derivative(double x) {
  const double s = 1 / (1 + std::exp(-x));
  return s + x * s / (1 + std::exp(x));  // 1 - s without cancellation
}

// e = exp(-x) errs by 2 ulp, 4 u at most; of 1 / (1 + e) that is e's share of the sum, a rounded sum, a rounded division.
double logistic_error(double x) {
  return 4 * kUnit / (1 + std::exp(x)) + 2 * kUnit;
}
constexpr double kDenormal = 0x1p-125;  // results below it may be flushed to zero
double silu_bound(double x) {
  return std::fabs(silu(x)) * (logistic_error(x) + kUnit) + kDenormal;
}
// s + x s (e s): s as above; three products, two more s and an e; a rounded sum. Clamped at 87: 1e-35 away.
double derivative_bound(double x) {
  const double s = 1 / (1 + std::exp(-x));
  const double second = std::fabs(x) * s / (1 + std::exp(x));
  return s * (logistic_error(x) + kUnit) + second * (8 * kUnit + 2 * logistic_error(x)) + 1e-35;
}

// Gates around zero, where everything happens, and the far ends; ups of order one.
Guarded<float> inputs(const Shape& s) {
  Guarded<float> x = normal(s.rows * 2 * s.F, "in", 2);
  constexpr float kFar[] = {0.0f,   -0.0f, 1e-30f, -5.0f,   20.0f,    -20.0f, 86.9f,
                            -86.9f, 88.0f, -88.0f, 1000.0f, -1000.0f, 3e38f,  -3e38f};
  for (int64_t i = 0; i < static_cast<int64_t>(std::size(kFar)) && i < s.F; i++) x[s.F - 1 - i] = kFar[i];
  return x;
}
struct Parts {
  double gate, up;
};
Parts parts(const Guarded<float>& in, const Shape& s, int64_t i) {  // of output i
  const int64_t row = i / s.F, f = i % s.F;
  return {in[row * 2 * s.F + f], in[row * 2 * s.F + s.F + f]};
}

TEST(Swiglu, ForwardMatchesReference) {
  for (Isa isa : isas()) {
    Runner runner(isa, 2);
    for (const Shape& s : kShapes) {
      SCOPED_TRACE(fmt::format("{} rows={} F={}", name_of(isa), s.rows, s.F));
      const auto in = inputs(s);
      Guarded<float> out(s.rows * s.F);
      runner.run(kernels::swiglu_forward,
                 kernels::SwigluForward{out.data(), in.data(), s.rows, s.F, DType::f32});
      std::vector<double> expected;
      for (int64_t i = 0; i < s.rows * s.F; i++)
        expected.push_back(silu(parts(in, s, i).gate) * parts(in, s, i).up);
      for (double& e : expected) {
        if (std::fabs(e) > static_cast<double>(std::numeric_limits<float>::max()))
          e = std::copysign(std::numeric_limits<double>::infinity(), e);
      }
      expect_close("out", out, expected, [&](int64_t i) {
        const Parts p = parts(in, s, i);
        return silu_bound(p.gate) * std::fabs(p.up) + kUnit * std::fabs(silu(p.gate) * p.up) + kDenormal;
      });
    }
  }
}

TEST(Swiglu, BackwardMatchesReferenceAlsoInPlace) {
  for (Isa isa : isas()) {
    Runner runner(isa, 2);
    for (const Shape& s : kShapes) {
      SCOPED_TRACE(fmt::format("{} rows={} F={}", name_of(isa), s.rows, s.F));
      auto in = inputs(s);
      const auto d_out = normal(s.rows * s.F, "d_out");
      Guarded<float> d_in(s.rows * 2 * s.F);
      runner.run(kernels::swiglu_backward,
                 kernels::SwigluBackward{d_in.data(), d_out.data(), in.data(), s.rows, s.F, DType::f32});
      std::vector<double> expected(static_cast<size_t>(s.rows * 2 * s.F)), bound(expected.size());
      for (int64_t i = 0; i < s.rows * s.F; i++) {
        const auto [gate, up] = parts(in, s, i);
        const double d = d_out[i];
        const auto at = static_cast<size_t>(i / s.F * 2 * s.F + i % s.F),
                   other = at + static_cast<size_t>(s.F);
        expected[at] = d * up * silu_derivative(gate);
        bound[at] =
            std::fabs(d * up) * derivative_bound(gate) + 2 * kUnit * std::fabs(expected[at]) + kDenormal;
        expected[other] = d * silu(gate);
        if (std::fabs(expected[other]) > static_cast<double>(std::numeric_limits<float>::max()))
          expected[other] = std::copysign(std::numeric_limits<double>::infinity(), expected[other]);
        bound[other] = std::fabs(d) * silu_bound(gate) + kUnit * std::fabs(expected[other]) + kDenormal;
      }
      expect_close("d_in", d_in, expected, [&](int64_t i) { return bound[static_cast<size_t>(i)]; });
      runner.run(kernels::swiglu_backward,
                 kernels::SwigluBackward{in.data(), d_out.data(), in.data(), s.rows, s.F, DType::f32});
      EXPECT_TRUE(in.same_bits(d_in));
    }
  }
}

TEST(Swiglu, ReferenceDerivativeIsNumericDerivative) {
  for (double x : {-30.0, -8.0, -1.0, -0.3, 0.0, 0.7, 2.0, 9.0, 30.0}) {
    const double derivative = silu_derivative(x);
    EXPECT_NEAR(derivative, central_difference([&] { return silu(x); }, x), 1e-9) << x;
  }
}

TEST(Swiglu, KeepsNaNAndDoesNotDependOnThreads) {
  const Shape s{301, 67};
  auto in = inputs(s);
  in[5 * 2 * s.F] = std::nanf("");
  const auto d_out = normal(s.rows * s.F, "d_out");
  for (Isa isa : isas()) {
    std::vector<Guarded<float>> outs, d_ins;
    for (int threads : {1, 2, 3}) {
      Runner runner(isa, threads);
      Guarded<float>&out = outs.emplace_back(s.rows * s.F), &d_in = d_ins.emplace_back(s.rows * 2 * s.F);
      runner.run(kernels::swiglu_forward,
                 kernels::SwigluForward{out.data(), in.data(), s.rows, s.F, DType::f32});
      runner.run(kernels::swiglu_backward,
                 kernels::SwigluBackward{d_in.data(), d_out.data(), in.data(), s.rows, s.F, DType::f32});
      EXPECT_TRUE(out.same_bits(outs[0]) && d_in.same_bits(d_ins[0])) << name_of(isa);
      EXPECT_TRUE(std::isnan(out[5 * s.F]) && std::isnan(d_in[5 * 2 * s.F]) &&
                  std::isnan(d_in[5 * 2 * s.F + s.F]));
    }
  }
}

}  // namespace
}  // namespace kiln::tests
