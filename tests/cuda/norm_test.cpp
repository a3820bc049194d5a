#include "tests/cuda/support.h"
#include "tests/kernels/bounds_norm.h"

namespace kiln::tests::norm_test {
namespace {

constexpr float kEps = 1e-5f;

struct Input {
  const char* name;
  int64_t rows, C;
  double mean;     // of every row's elements, whose standard deviation is 1
  int64_t offset;  // elements that tensors begin after a 16-byte boundary
};

// One element, primes, vectors and one more or less, rows around the number in a block and in a chunk, more columns than
// a block has threads, more chunks than a block of the last kernel has warps.
constexpr Input kInputs[] = {
    {"unit", 5, 1, 0.5, 0},        {"pair", 64, 2, 0, 0},        {"seven", 1, 7, 0, 0},
    {"eight", 9, 8, 0, 0},         {"prime", 5, 31, -3, 0},      {"even", 17, 64, 0, 0},
    {"one more", 5, 65, 0, 0},     {"wide prime", 8, 97, 2, 0},  {"wide", 7, 768, 0, 0},
    {"wider", 3, 2056, 0, 0},      {"many rows", 131, 40, 0, 0}, {"far", 12, 97, 1000, 0},
    {"far wide", 5, 768, -300, 0}, {"askew", 6, 64, 0, 1},       {"odd and wide", 2, 1031, 0, 0}};

size_t index(int64_t i) {
  return static_cast<size_t>(i);
}

std::string text(const Input& input, DType dtype) {
  return fmt::format("{} {}: rows={} C={}", name_of(dtype), input.name, input.rows, input.C);
}

TEST(CudaLayerNorm, ForwardMatchesReference) {
  Gpu gpu;
  for (DType dtype : kBothTypes) {
    for (const Input& input : kInputs) {
      SCOPED_TRACE(text(input, dtype));
      const int64_t rows = input.rows, C = input.C, offset = input.offset;
      const auto in = gpu_values(rows * C, input.name, dtype, 1, input.mean);
      const auto weight = gpu_values(C, "weight", dtype), bias = gpu_values(C, "bias", dtype);
      const Tensor x(gpu, dtype, in, offset), w(gpu, dtype, weight, offset), b(gpu, dtype, bias, offset),
          out(gpu, dtype, rows * C, offset), mean(gpu, DType::f32, rows), rstd(gpu, DType::f32, rows);
      gpu.run(kernels::layernorm_forward,
              kernels::LayerNormForward{out.data(), static_cast<float*>(mean.data()),
                                        static_cast<float*>(rstd.data()), x.data(), w.data(), b.data(), rows,
                                        C, kEps, dtype});

      const auto expected = reference::layernorm_forward(to_double(in), to_double(weight), to_double(bias),
                                                         rows, C, static_cast<double>(kEps));
      std::vector<RowSizes> sizes;
      for (int64_t i = 0; i < rows; i++) sizes.push_back(sizes_of(&to_double(in)[index(i * C)], C));
      expect_close("mean", mean.read(gpu), expected.mean, DType::f32,
                   [&](int64_t i) { return mean_error(sizes[index(i)], C); });
      expect_close("rstd", rstd.read(gpu), expected.rstd, DType::f32, [&](int64_t i) {
        return expected.rstd[index(i)] * rstd_relative_error(sizes[index(i)], C, kEps, kRootOnCuda);
      });
      expect_close("out", out.read(gpu), expected.out, dtype, [&](int64_t i) {
        return layernorm_error(sizes[index(i / C)], C, kEps, kRootOnCuda, in[index(i)], weight[index(i % C)],
                               bias[index(i % C)]);
      });
    }
  }
}

enum class Alias { none, residual, d_out };

struct Backward {
  std::vector<float> d_in, d_weight, d_bias;
};

struct Problem {
  std::vector<float> in, weight, d_out, d_residual, mean, rstd, d_weight, d_bias;
  reference::LayerNorm forward;
};

// Takes mean and rstd from the fp64 reference, rounded.
Problem problem_of(const Input& input, DType dtype) {
  const int64_t n = input.rows * input.C;
  Problem p{.in = gpu_values(n, input.name, dtype, 1, input.mean),
            .weight = gpu_values(input.C, "weight", dtype),
            .d_out = gpu_values(n, "d_out", dtype),
            .d_residual = gpu_values(n, "d_residual", dtype),
            .mean = {},
            .rstd = {},
            .d_weight = gpu_values(input.C, "d_weight", DType::f32),
            .d_bias = gpu_values(input.C, "d_bias", DType::f32),
            .forward = {}};
  p.forward =
      reference::layernorm_forward(to_double(p.in), to_double(p.weight), std::vector<double>(p.weight.size()),
                                   input.rows, input.C, static_cast<double>(kEps));
  for (double m : p.forward.mean) p.mean.push_back(static_cast<float>(m));
  for (double r : p.forward.rstd) p.rstd.push_back(static_cast<float>(r));
  return p;
}

Backward backward(Gpu& gpu, const Input& input, DType dtype, bool residual, Alias alias) {
  const Problem p = problem_of(input, dtype);
  const int64_t offset = input.offset;
  const Tensor in(gpu, dtype, p.in, offset), weight(gpu, dtype, p.weight, offset),
      d_out(gpu, dtype, p.d_out, offset), d_residual(gpu, dtype, p.d_residual, offset),
      own(gpu, dtype, input.rows * input.C, offset), mean(gpu, DType::f32, p.mean),
      rstd(gpu, DType::f32, p.rstd), d_weight(gpu, DType::f32, p.d_weight), d_bias(gpu, DType::f32, p.d_bias);
  const Tensor& d_in = alias == Alias::residual ? d_residual : alias == Alias::d_out ? d_out : own;
  const auto floats = [](const Tensor& t) { return static_cast<float*>(t.data()); };
  gpu.run(kernels::layernorm_backward,
          kernels::LayerNormBackward{d_in.data(), floats(d_weight), floats(d_bias), d_out.data(),
                                     residual ? d_residual.data() : nullptr, in.data(), floats(mean),
                                     floats(rstd), weight.data(), input.rows, input.C, dtype});
  return {d_in.read(gpu), d_weight.read(gpu), d_bias.read(gpu)};
}

TEST(CudaLayerNorm, BackwardMatchesReference) {
  Gpu gpu;
  for (DType dtype : kBothTypes) {
    for (const Input& input : kInputs) {
      for (bool residual : {true, false}) {
        SCOPED_TRACE(fmt::format("{} residual={}", text(input, dtype), residual));
        const Problem p = problem_of(input, dtype);
        const auto in = to_double(p.in), weight = to_double(p.weight), d_out = to_double(p.d_out);
        auto d_in = residual ? to_double(p.d_residual) : std::vector<double>(p.in.size());
        auto d_weight = to_double(p.d_weight), d_bias = to_double(p.d_bias);
        const auto bounds = layernorm_backward_bounds(p.forward, in, weight, d_out, d_in, d_weight, d_bias,
                                                      input.rows, input.C);
        reference::layernorm_backward(p.forward, in, weight, d_out, input.rows, input.C, d_in, d_weight,
                                      d_bias);

        const Backward b = backward(gpu, input, dtype, residual, Alias::none);
        expect_close("d_in", b.d_in, d_in, dtype, [&](int64_t i) { return bounds.d_in[index(i)]; });
        expect_close("d_weight", b.d_weight, d_weight, DType::f32,
                     [&](int64_t c) { return bounds.d_weight[index(c)]; });
        expect_close("d_bias", b.d_bias, d_bias, DType::f32,
                     [&](int64_t c) { return bounds.d_bias[index(c)]; });
      }
    }
  }
}

TEST(CudaLayerNorm, BackwardWorksInPlaceAndRepeatsToTheBit) {
  Gpu gpu;
  for (DType dtype : kBothTypes) {
    for (const Input& input : {Input{"in place", 33, 97, 0, 0}, Input{"in place", 9, 264, 0, 0}}) {
      const Backward apart = backward(gpu, input, dtype, true, Alias::none);
      for (Alias alias : {Alias::none, Alias::residual, Alias::d_out}) {
        const Backward b = backward(gpu, input, dtype, true, alias);
        EXPECT_TRUE(b.d_in == apart.d_in && b.d_weight == apart.d_weight && b.d_bias == apart.d_bias)
            << text(input, dtype);
      }
    }
  }
}

// Sums over more chunks than there are blocks: chunks of more than the least number of rows.
TEST(CudaLayerNorm, BackwardOfManyRows) {
  Gpu gpu;
  const Input input{"very many rows", 2500, 8, 0, 0};
  const Problem p = problem_of(input, DType::f32);
  const auto in = to_double(p.in), weight = to_double(p.weight), d_out = to_double(p.d_out);
  auto d_in = to_double(p.d_residual), d_weight = to_double(p.d_weight), d_bias = to_double(p.d_bias);
  const auto bounds =
      layernorm_backward_bounds(p.forward, in, weight, d_out, d_in, d_weight, d_bias, input.rows, input.C);
  reference::layernorm_backward(p.forward, in, weight, d_out, input.rows, input.C, d_in, d_weight, d_bias);
  const Backward b = backward(gpu, input, DType::f32, true, Alias::none);
  expect_close("d_in", b.d_in, d_in, DType::f32, [&](int64_t i) { return bounds.d_in[index(i)]; });
  expect_close("d_weight", b.d_weight, d_weight, DType::f32,
               [&](int64_t c) { return bounds.d_weight[index(c)]; });
  expect_close("d_bias", b.d_bias, d_bias, DType::f32, [&](int64_t c) { return bounds.d_bias[index(c)]; });
}

void expect_wide_backward(Gpu& gpu, int64_t C) {
  const Input input{"wide", 2, C, 0, 0};
  const Backward b = backward(gpu, input, DType::bf16, false, Alias::none);
  const Problem p = problem_of(input, DType::bf16);
  std::vector<double> d_in(p.in.size()), d_weight = to_double(p.d_weight), d_bias = to_double(p.d_bias);
  const auto bounds =
      layernorm_backward_bounds(p.forward, to_double(p.in), to_double(p.weight), to_double(p.d_out), d_in,
                                d_weight, d_bias, input.rows, input.C);
  reference::layernorm_backward(p.forward, to_double(p.in), to_double(p.weight), to_double(p.d_out),
                                input.rows, input.C, d_in, d_weight, d_bias);
  expect_close("d_in", b.d_in, d_in, DType::bf16, [&](int64_t i) { return bounds.d_in[index(i)]; });
  expect_close("d_weight", b.d_weight, d_weight, DType::f32,
               [&](int64_t c) { return bounds.d_weight[index(c)]; });
}

// With what the kernel has besides, just more shared memory than it gets without asking.
TEST(CudaLayerNorm, BackwardAsksForSharedMemoryInTime) {
  Gpu gpu;
  expect_wide_backward(gpu, 6144);
}

// Much more than it gets without asking, then more than any GPU is sure to have.
TEST(CudaLayerNorm, BackwardTakesWideRowsUpToALimit) {
  Gpu gpu;
  expect_wide_backward(gpu, 12288);
  try {
    backward(gpu, {"too wide", 1, 12296, 0, 0}, DType::f32, false, Alias::none);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::device);
    EXPECT_STREQ(error.what(), "layernorm_backward on cuda takes rows of at most 12288 elements, not 12296");
  }
}

}  // namespace
}  // namespace kiln::tests::norm_test
