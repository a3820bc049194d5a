#include "tests/kernels/bounds_norm.h"

namespace kiln::tests {
namespace {

constexpr float kEps = 1e-5f;

struct Input {
  const char* name;
  int64_t rows, C;
  double mean;  // of every row's elements, whose standard deviation is 1
};

// Ragged widths, row counts around the sizes of tasks and partial sums, rows far from zero.
constexpr Input kInputs[] = {
    {"unit", 5, 1, 0.5},        {"pair", 64, 2, 0},     {"three", 129, 3, 0},       {"seven", 1, 7, 0},
    {"fifteen", 64, 15, 0},     {"sixteen", 5, 16, 0},  {"seventeen", 129, 17, 0},  {"prime", 5, 31, -3},
    {"even", 64, 64, 0},        {"one more", 5, 65, 0}, {"wide prime", 129, 97, 2}, {"wide", 129, 768, 0},
    {"many rows", 1000, 33, 0}, {"far", 64, 97, 1000},  {"far wide", 5, 768, -300}};

size_t index(int64_t i) {
  return static_cast<size_t>(i);
}

struct Forward {
  Guarded<float> out, mean, rstd;
};

Forward forward(Isa isa, int threads, const Input& input) {
  const int64_t rows = input.rows, C = input.C;
  Runner runner(isa, threads);
  const auto in = normal(rows * C, input.name, 1, input.mean), weight = normal(C, "weight"),
             bias = normal(C, "bias");
  Forward f{Guarded<float>(rows * C), Guarded<float>(rows), Guarded<float>(rows)};
  runner.run(kernels::layernorm_forward,
             kernels::LayerNormForward{f.out.data(), f.mean.data(), f.rstd.data(), in.data(), weight.data(),
                                       bias.data(), rows, C, kEps, DType::f32});
  return f;
}

TEST(LayerNorm, ForwardMatchesReference) {
  for (Isa isa : isas()) {
    for (const Input& input : kInputs) {
      const int64_t rows = input.rows, C = input.C;
      SCOPED_TRACE(fmt::format("{} {}: rows={} C={}", name_of(isa), input.name, rows, C));
      const auto in = to_double(normal(rows * C, input.name, 1, input.mean));
      const auto weight = to_double(normal(C, "weight")), bias = to_double(normal(C, "bias"));
      const auto expected =
          reference::layernorm_forward(in, weight, bias, rows, C, static_cast<double>(kEps));
      std::vector<RowSizes> sizes;
      for (int64_t i = 0; i < rows; i++) sizes.push_back(sizes_of(&in[index(i * C)], C));

      const Forward f = forward(isa, 2, input);
      expect_close("mean", f.mean, expected.mean, [&](int64_t i) { return mean_error(sizes[index(i)], C); });
      expect_close("rstd", f.rstd, expected.rstd, [&](int64_t i) {
        return expected.rstd[index(i)] * rstd_relative_error(sizes[index(i)], C, kEps, kRootOnCpu);
      });
      expect_close("out", f.out, expected.out, [&](int64_t i) {
        return layernorm_error(sizes[index(i / C)], C, kEps, kRootOnCpu, in[index(i)], weight[index(i % C)],
                               bias[index(i % C)]);
      });
    }
  }
}

// A constant row has no direction: its output is the bias, exactly, however large the constant.
TEST(LayerNorm, ForwardOfConstantRowsIsBias) {
  for (Isa isa : isas()) {
    for (int64_t C : {1, 64, 256}) {  // sums of equal numbers that stay exact in fp32
      Runner runner(isa, 2);
      const Guarded<float> in(2 * C, 3072.0f), weight(C, 2.0f);
      const auto bias = normal(C, "bias");
      Guarded<float> out(2 * C), mean(2), rstd(2);
      runner.run(kernels::layernorm_forward,
                 kernels::LayerNormForward{out.data(), mean.data(), rstd.data(), in.data(), weight.data(),
                                           bias.data(), 2, C, kEps, DType::f32});
      for (int64_t i = 0; i < 2 * C; i++) ASSERT_EQ(out[i], bias[i % C]) << name_of(isa) << " C=" << C;
    }
  }
}

enum class Alias { none, residual, d_out };

struct Backward {
  Guarded<float> d_in, d_weight, d_bias;
};

// Takes mean and rstd from the fp64 reference, rounded.
Backward backward(Isa isa, int threads, const Input& input, bool residual, Alias alias) {
  const int64_t rows = input.rows, C = input.C;
  Runner runner(isa, threads);
  const auto in = normal(rows * C, input.name, 1, input.mean), weight = normal(C, "weight"),
             bias = normal(C, "bias");
  auto d_out = normal(rows * C, "d_out"), d_residual = normal(rows * C, "d_residual");
  const auto r = reference::layernorm_forward(to_double(in), to_double(weight), to_double(bias), rows, C,
                                              static_cast<double>(kEps));
  Guarded<float> mean(rows), rstd(rows);
  for (int64_t i = 0; i < rows; i++) {
    mean[i] = static_cast<float>(r.mean[index(i)]);
    rstd[i] = static_cast<float>(r.rstd[index(i)]);
  }
  Backward b{Guarded<float>(rows * C), normal(C, "d_weight"), normal(C, "d_bias")};
  float* d_in = alias == Alias::residual ? d_residual.data()
                : alias == Alias::d_out  ? d_out.data()
                                         : b.d_in.data();
  runner.run(kernels::layernorm_backward,
             kernels::LayerNormBackward{d_in, b.d_weight.data(), b.d_bias.data(), d_out.data(),
                                        residual ? d_residual.data() : nullptr, in.data(), mean.data(),
                                        rstd.data(), weight.data(), rows, C, DType::f32});
  std::memcpy(b.d_in.data(), d_in, static_cast<size_t>(rows * C) * sizeof(float));
  return b;
}

TEST(LayerNorm, BackwardMatchesReference) {
  for (Isa isa : isas()) {
    for (const Input& input : kInputs) {
      for (bool residual : {true, false}) {
        const int64_t rows = input.rows, C = input.C;
        SCOPED_TRACE(
            fmt::format("{} {}: rows={} C={} residual={}", name_of(isa), input.name, rows, C, residual));
        const auto in = to_double(normal(rows * C, input.name, 1, input.mean)),
                   weight = to_double(normal(C, "weight"));
        const auto d_out = to_double(normal(rows * C, "d_out")),
                   d_residual = to_double(normal(rows * C, "d_residual"));
        const auto r = reference::layernorm_forward(in, weight, to_double(normal(C, "bias")), rows, C,
                                                    static_cast<double>(kEps));
        auto d_in = residual ? d_residual : std::vector<double>(index(rows * C));
        auto d_weight = to_double(normal(C, "d_weight")), d_bias = to_double(normal(C, "d_bias"));
        const auto bounds = layernorm_backward_bounds(
            r, in, weight, d_out, residual ? d_residual : std::vector<double>(d_residual.size()), d_weight, d_bias,
            rows, C);
        reference::layernorm_backward(r, in, weight, d_out, rows, C, d_in, d_weight, d_bias);
        const Backward b = backward(isa, 2, input, residual, Alias::none);
        expect_close("d_in", b.d_in, d_in, [&](int64_t i) { return bounds.d_in[index(i)]; });
        expect_close("d_weight", b.d_weight, d_weight, [&](int64_t c) { return bounds.d_weight[index(c)]; });
        expect_close("d_bias", b.d_bias, d_bias, [&](int64_t c) { return bounds.d_bias[index(c)]; });
      }
    }
  }
}

TEST(LayerNorm, BackwardWorksInPlace) {
  const Input input{"in place", 65, 97, 0};
  for (Isa isa : isas()) {
    const Backward apart = backward(isa, 2, input, true, Alias::none);
    for (Alias alias : {Alias::residual, Alias::d_out}) {
      const Backward b = backward(isa, 2, input, true, alias);
      EXPECT_TRUE(b.d_in.same_bits(apart.d_in) && b.d_weight.same_bits(apart.d_weight)) << name_of(isa);
    }
  }
}

TEST(LayerNorm, DoesNotDependOnThreads) {
  const Input input{"threads", 1031, 65, 0};
  for (Isa isa : isas()) {
    const Forward f1 = forward(isa, 1, input);
    const Backward b1 = backward(isa, 1, input, true, Alias::none);
    for (int threads : {2, 3}) {
      const Forward f = forward(isa, threads, input);
      const Backward b = backward(isa, threads, input, true, Alias::none);
      EXPECT_TRUE(f.out.same_bits(f1.out) && f.mean.same_bits(f1.mean) && f.rstd.same_bits(f1.rstd))
          << name_of(isa);
      EXPECT_TRUE(b.d_in.same_bits(b1.d_in) && b.d_weight.same_bits(b1.d_weight) &&
                  b.d_bias.same_bits(b1.d_bias))
          << name_of(isa);
    }
  }
}

// The reference itself. With a step of 1e-5 and values of order one, truncation and rounding stay below 1e-8.
TEST(LayerNorm, ReferenceGradientIsNumericGradient) {
  for (int64_t C : {1, 2, 5}) {
    const int64_t rows = 3;
    auto in = to_double(normal(rows * C, "in")), weight = to_double(normal(C, "weight"));
    auto bias = to_double(normal(C, "bias"));
    const auto d_out = to_double(normal(rows * C, "d_out"));
    const double eps = 0.1;  // keeps the curvature of a row of nearly equal elements small
    const auto loss = [&] {
      const auto r = reference::layernorm_forward(in, weight, bias, rows, C, eps);
      double sum = 0;
      for (size_t i = 0; i < r.out.size(); i++) sum += d_out[i] * r.out[i];
      return sum;
    };
    std::vector<double> d_in(in.size()), d_weight(weight.size()), d_bias(bias.size());
    reference::layernorm_backward(reference::layernorm_forward(in, weight, bias, rows, C, eps), in, weight,
                                  d_out, rows, C, d_in, d_weight, d_bias);
    for (size_t i = 0; i < in.size(); i++) EXPECT_NEAR(d_in[i], central_difference(loss, in[i]), 1e-8);
    for (size_t i = 0; i < weight.size(); i++)
      EXPECT_NEAR(d_weight[i], central_difference(loss, weight[i]), 1e-8);
    for (size_t i = 0; i < bias.size(); i++) EXPECT_NEAR(d_bias[i], central_difference(loss, bias[i]), 1e-8);
  }
}

}  // namespace
}  // namespace kiln::tests
