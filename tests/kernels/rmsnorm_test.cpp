#include "tests/kernels/bounds_norm.h"

namespace kiln::tests {
namespace {

constexpr float kEps = 1e-6f;

struct Input {
  const char* name;
  int64_t rows, C;
  double deviation;
};
constexpr Input kInputs[] = {{"unit", 5, 1, 1},      {"pair", 64, 2, 1},        {"three", 129, 3, 1},
                             {"seven", 1, 7, 1},     {"sixteen", 5, 16, 1},     {"seventeen", 129, 17, 1},
                             {"small", 5, 31, 1e-3}, {"one more", 5, 65, 1},    {"prime", 129, 97, 30},
                             {"wide", 129, 768, 1},  {"many rows", 1000, 33, 1}};

size_t index(int64_t i) {
  return static_cast<size_t>(i);
}

struct Forward {
  Guarded<float> out, rstd;
};
Forward forward(Isa isa, int threads, const Input& input) {
  const int64_t rows = input.rows, C = input.C;
  Runner runner(isa, threads);
  const auto in = normal(rows * C, input.name, input.deviation), weight = normal(C, "weight");
  Forward f{Guarded<float>(rows * C), Guarded<float>(rows)};
  runner.run(kernels::rmsnorm_forward, kernels::RmsNormForward{f.out.data(), f.rstd.data(), in.data(),
                                                               weight.data(), rows, C, kEps, DType::f32});
  return f;
}

TEST(RmsNorm, ForwardMatchesReference) {
  for (Isa isa : isas()) {
    for (const Input& input : kInputs) {
      SCOPED_TRACE(fmt::format("{} {}", name_of(isa), input.name));
      const int64_t rows = input.rows, C = input.C;
      const auto expected =
          reference::rmsnorm_forward(to_double(normal(rows * C, input.name, input.deviation)),
                                     to_double(normal(C, "weight")), rows, C, static_cast<double>(kEps));
      const Forward f = forward(isa, 2, input);
      expect_close("rstd", f.rstd, expected.rstd,
                   [&](int64_t i) { return expected.rstd[index(i)] * rmsnorm_rstd_relative_error(C, kRootOnCpu); });
      // Two rounded products more.
      expect_close("out", f.out, expected.out, [&](int64_t i) {
        return std::fabs(expected.out[index(i)]) * (rmsnorm_rstd_relative_error(C, kRootOnCpu) + 2 * kUnit);
      });
    }
  }
}

// Without the eps there is no number.
TEST(RmsNorm, RowsOfZerosStayZero) {
  for (Isa isa : isas()) {
    Runner runner(isa, 1);
    const Guarded<float> in(2 * 17, 0.0f), weight(17, 3.0f);
    Guarded<float> out(2 * 17), rstd(2);
    runner.run(kernels::rmsnorm_forward, kernels::RmsNormForward{out.data(), rstd.data(), in.data(),
                                                                 weight.data(), 2, 17, kEps, DType::f32});
    for (float x : out) EXPECT_EQ(x, 0.0f);
    for (float x : rstd) EXPECT_NEAR(x, 1000.0f, 0.001f);
  }
}

enum class Alias { none, residual, d_out };

struct Backward {
  Guarded<float> d_in, d_weight;
};
// Takes rstd from the fp64 reference, rounded.
Backward backward(Isa isa, int threads, const Input& input, bool residual, Alias alias) {
  const int64_t rows = input.rows, C = input.C;
  Runner runner(isa, threads);
  const auto in = normal(rows * C, input.name, input.deviation), weight = normal(C, "weight");
  auto d_out = normal(rows * C, "d_out"), d_residual = normal(rows * C, "d_residual");
  const auto r =
      reference::rmsnorm_forward(to_double(in), to_double(weight), rows, C, static_cast<double>(kEps));
  Guarded<float> rstd(rows);
  for (int64_t i = 0; i < rows; i++) rstd[i] = static_cast<float>(r.rstd[index(i)]);
  Backward b{Guarded<float>(rows * C), normal(C, "d_weight")};
  float* d_in = alias == Alias::residual ? d_residual.data()
                : alias == Alias::d_out  ? d_out.data()
                                         : b.d_in.data();
  runner.run(
      kernels::rmsnorm_backward,
      kernels::RmsNormBackward{d_in, b.d_weight.data(), d_out.data(), residual ? d_residual.data() : nullptr,
                               in.data(), rstd.data(), weight.data(), rows, C, DType::f32});
  std::memcpy(b.d_in.data(), d_in, static_cast<size_t>(rows * C) * sizeof(float));
  return b;
}

TEST(RmsNorm, BackwardMatchesReference) {
  for (Isa isa : isas()) {
    for (const Input& input : kInputs) {
      for (bool residual : {true, false}) {
        const int64_t rows = input.rows, C = input.C;
        SCOPED_TRACE(fmt::format("{} {} residual={}", name_of(isa), input.name, residual));
        const auto in = to_double(normal(rows * C, input.name, input.deviation)),
                   weight = to_double(normal(C, "weight"));
        const auto d_out = to_double(normal(rows * C, "d_out")),
                   d_residual = to_double(normal(rows * C, "d_residual"));
        const auto r = reference::rmsnorm_forward(in, weight, rows, C, static_cast<double>(kEps));
        auto d_in = residual ? d_residual : std::vector<double>(index(rows * C));
        auto d_weight = to_double(normal(C, "d_weight"));
        const auto bounds = rmsnorm_backward_bounds(
            r, in, weight, d_out, residual ? d_residual : std::vector<double>(d_residual.size()), d_weight, rows, C);
        reference::rmsnorm_backward(r, in, weight, d_out, rows, C, d_in, d_weight);
        const Backward b = backward(isa, 2, input, residual, Alias::none);
        expect_close("d_in", b.d_in, d_in, [&](int64_t i) { return bounds.d_in[index(i)]; });
        expect_close("d_weight", b.d_weight, d_weight, [&](int64_t c) { return bounds.d_weight[index(c)]; });
      }
    }
  }
}

TEST(RmsNorm, BackwardWorksInPlace) {
  const Input input{"in place", 65, 97, 1};
  for (Isa isa : isas()) {
    const Backward apart = backward(isa, 2, input, true, Alias::none);
    for (Alias alias : {Alias::residual, Alias::d_out}) {
      const Backward b = backward(isa, 2, input, true, alias);
      EXPECT_TRUE(b.d_in.same_bits(apart.d_in) && b.d_weight.same_bits(apart.d_weight)) << name_of(isa);
    }
  }
}

TEST(RmsNorm, DoesNotDependOnThreads) {
  const Input input{"threads", 1031, 65, 1};
  for (Isa isa : isas()) {
    const Forward f1 = forward(isa, 1, input);
    const Backward b1 = backward(isa, 1, input, true, Alias::none);
    for (int threads : {2, 3}) {
      const Forward f = forward(isa, threads, input);
      const Backward b = backward(isa, threads, input, true, Alias::none);
      EXPECT_TRUE(f.out.same_bits(f1.out) && f.rstd.same_bits(f1.rstd)) << name_of(isa);
      EXPECT_TRUE(b.d_in.same_bits(b1.d_in) && b.d_weight.same_bits(b1.d_weight)) << name_of(isa);
    }
  }
}

// The reference itself: truncation and rounding of central differences stay below 1e-8.
TEST(RmsNorm, ReferenceGradientIsNumericGradient) {
  for (int64_t C : {1, 2, 5}) {
    const int64_t rows = 3;
    auto in = to_double(normal(rows * C, "in")), weight = to_double(normal(C, "weight"));
    const auto d_out = to_double(normal(rows * C, "d_out"));
    const double eps = 0.1;
    const auto loss = [&] {
      const auto r = reference::rmsnorm_forward(in, weight, rows, C, eps);
      double sum = 0;
      for (size_t i = 0; i < r.out.size(); i++) sum += d_out[i] * r.out[i];
      return sum;
    };
    std::vector<double> d_in(in.size()), d_weight(weight.size());
    reference::rmsnorm_backward(reference::rmsnorm_forward(in, weight, rows, C, eps), in, weight, d_out, rows,
                                C, d_in, d_weight);
    for (size_t i = 0; i < in.size(); i++) EXPECT_NEAR(d_in[i], central_difference(loss, in[i]), 1e-8);
    for (size_t i = 0; i < weight.size(); i++)
      EXPECT_NEAR(d_weight[i], central_difference(loss, weight[i]), 1e-8);
  }
}

}  // namespace
}  // namespace kiln::tests
