// The linear kernels against a naive fp64 reference, on odd shapes.
//
// Tolerance: a sum of n products computed in fp32, in whatever order and with or without fused multiply-add, differs from
// the exact one by at most gamma(n) = n u / (1 - n u) times the sum of the magnitudes of its terms (Higham, "Accuracy and
// stability of numerical algorithms", section 3.1). A bias or an old gradient is one more term. bf16 factors are exact in
// fp32, their products are not: n covers that rounding. Results in bf16 are rounded once more.
#include "kernels/linear.h"

#include "tests/cuda/support.h"
#include "tests/kernels/reference_linear.h"

namespace kiln::tests::linear_test {
namespace {

using kernels::LinearBackwardInput;
using kernels::LinearBackwardWeight;
using kernels::LinearForward;
using kernels::PackedWeight;

struct Shape {
  int64_t rows, N, K, gap = 0;  // rows of out lie N + gap apart
};
// Ones, primes, widths that are and are not multiples of vectors, several chunks of rows, one row more than a chunk.
constexpr Shape kShapes[] = {{1, 1, 1},      {1, 3, 17},   {3, 1, 5},       {2, 17, 1},
                             {7, 31, 13, 2}, {16, 64, 32}, {33, 40, 24, 8}, {65, 257, 19, 3},
                             {130, 96, 8},   {97, 264, 7}, {5, 8, 127},     {300, 33, 3}};

double gamma(int64_t terms) {
  const double nu = static_cast<double>(terms) * kUnit;
  return nu / (1 - nu);
}

// Rows of n elements, gap elements apart, that hold `between` there.
constexpr float kBetween = 77;
std::vector<float> spread(const std::vector<float>& dense, const Shape& s) {
  std::vector<float> wide;
  for (int64_t r = 0; r < s.rows; r++) {
    wide.insert(wide.end(), dense.begin() + r * s.N, dense.begin() + (r + 1) * s.N);
    wide.insert(wide.end(), static_cast<size_t>(s.gap), kBetween);
  }
  return wide;
}

// The rows without what lies between them, which must be as it was.
std::vector<float> dense(const std::vector<float>& wide, const Shape& s) {
  std::vector<float> rows;
  const int64_t ld = s.N + s.gap;
  for (int64_t r = 0; r < s.rows; r++) {
    rows.insert(rows.end(), wide.begin() + r * ld, wide.begin() + r * ld + s.N);
    for (int64_t c = s.N; c < ld; c++)
      EXPECT_EQ(wide[static_cast<size_t>(r * ld + c)], kBetween) << "row " << r;
  }
  return rows;
}

struct Layer {
  std::vector<float> in, weight, bias, d_out;
  reference::Linear exact;

  Layer(const Shape& s, DType dtype)
      : in(gpu_values(s.rows * s.K, "in", dtype)),
        weight(gpu_values(s.N * s.K, "weight", dtype)),
        bias(gpu_values(s.N, "bias", dtype)),
        d_out(gpu_values(s.rows * s.N, "d_out", dtype)),
        exact{s.rows, s.N, s.K, to_double(in), to_double(weight), to_double(bias), to_double(d_out)} {}
};

void expect_within(const std::string& what, const std::vector<float>& actual,
                   const reference::Result& expected, DType dtype, int64_t terms) {
  expect_close(what, actual, expected.value, dtype,
               [&](int64_t i) { return gamma(terms) * expected.magnitude[static_cast<size_t>(i)]; });
}

void add_initial(reference::Result& result, const std::vector<float>& initial) {
  for (size_t i = 0; i < initial.size(); i++) result.add(static_cast<int64_t>(i), initial[i]);
}

template <class F>
void for_each_layer(const F& f) {
  Gpu gpu;
  for (DType dtype : kBothTypes) {
    for (const Shape& s : kShapes) {
      SCOPED_TRACE(fmt::format("{} rows={} N={} K={} gap={}", name_of(dtype), s.rows, s.N, s.K, s.gap));
      f(gpu, s, dtype, Layer(s, dtype));
    }
  }
}

PackedWeight weight_of(const Tensor& weight, const Shape& s, DType dtype) {
  static const uint64_t version = 1;
  EXPECT_EQ(kernels::packed_weight_bytes(s.N, s.K, dtype, planned_cuda_device(), true), 0u);
  return {.weight = weight.data(), .version = &version, .N = s.N, .K = s.K, .dtype = dtype};
}

TEST(CudaLinear, Forward) {
  for_each_layer([](Gpu& gpu, const Shape& s, DType dtype, const Layer& layer) {
    const Tensor in(gpu, dtype, layer.in), weight(gpu, dtype, layer.weight), bias(gpu, dtype, layer.bias);
    PackedWeight packed = weight_of(weight, s, dtype);
    for (bool with_bias : {true, false}) {
      const std::vector<float> nothing(static_cast<size_t>(s.rows * s.N), std::nanf(""));
      const Tensor out(gpu, dtype, spread(nothing, s));
      gpu.run(kernels::linear_forward,
              LinearForward{out.data(), in.data(), &packed, with_bias ? bias.data() : nullptr, s.rows, s.N,
                            s.K, s.N + s.gap, dtype});
      expect_within("out", dense(out.read(gpu), s), reference::forward(layer.exact, with_bias), dtype,
                    s.K + 1);
    }
  });
}

TEST(CudaLinear, BackwardInput) {
  for_each_layer([](Gpu& gpu, const Shape& s, DType dtype, const Layer& layer) {
    const Tensor d_out(gpu, dtype, spread(layer.d_out, s)), weight(gpu, dtype, layer.weight);
    PackedWeight packed = weight_of(weight, s, dtype);
    const auto before = gpu_values(s.rows * s.K, "d_in", dtype);
    for (bool accumulate : {true, false}) {
      const Tensor d_in = accumulate ? Tensor(gpu, dtype, before) : Tensor(gpu, dtype, s.rows * s.K);
      gpu.run(kernels::linear_backward_input, LinearBackwardInput{d_in.data(), d_out.data(), &packed, s.rows,
                                                                  s.N, s.K, s.N + s.gap, accumulate, dtype});
      reference::Result expected = reference::backward_input(layer.exact);
      if (accumulate) add_initial(expected, before);
      expect_within("d_in", d_in.read(gpu), expected, dtype, s.N + 1);
    }
  });
}

TEST(CudaLinear, BackwardWeightAddsUpInFp32) {
  for_each_layer([](Gpu& gpu, const Shape& s, DType dtype, const Layer& layer) {
    const Tensor d_out(gpu, dtype, spread(layer.d_out, s)), in(gpu, dtype, layer.in);
    const auto weight_before = gpu_values(s.N * s.K, "d_weight", DType::f32),
               bias_before = gpu_values(s.N, "d_bias", DType::f32);
    for (bool with_bias : {true, false}) {
      const Tensor d_weight(gpu, DType::f32, weight_before), d_bias(gpu, DType::f32, bias_before);
      gpu.run(kernels::linear_backward_weight,
              LinearBackwardWeight{static_cast<float*>(d_weight.data()),
                                   with_bias ? static_cast<float*>(d_bias.data()) : nullptr, d_out.data(),
                                   in.data(), s.rows, s.N, s.K, s.N + s.gap, dtype});
      reference::Result expected = reference::backward_weight(layer.exact);
      add_initial(expected, weight_before);
      expect_within("d_weight", d_weight.read(gpu), expected, DType::f32, s.rows + 1);
      reference::Result sums = reference::backward_bias(layer.exact);
      add_initial(sums, bias_before);
      if (with_bias) {
        expect_within("d_bias", d_bias.read(gpu), sums, DType::f32, s.rows + 1);
      } else {
        EXPECT_EQ(d_bias.read(gpu), bias_before);
      }
    }
  });
}

// The second layer of a shape takes the algorithm of the first, and nothing else of it.
TEST(CudaLinear, LayersOfOneShapeKeepTheirWeightsAndBiases) {
  Gpu gpu;
  const Shape s{9, 16, 8};
  for (DType dtype : kBothTypes) {
    const Layer first(s, dtype);
    Layer changed = first;
    for (float& x : changed.weight) x = -2 * x;
    for (float& x : changed.bias) x = 4 * x;
    changed.exact.weight = to_double(changed.weight);
    changed.exact.bias = to_double(changed.bias);
    const Layer& second = changed;
    const Tensor in(gpu, dtype, first.in);
    for (const Layer* layer : {&first, &second}) {
      const Tensor weight(gpu, dtype, layer->weight), bias(gpu, dtype, layer->bias),
          out(gpu, dtype, s.rows * s.N);
      PackedWeight packed = weight_of(weight, s, dtype);
      gpu.run(kernels::linear_forward,
              LinearForward{out.data(), in.data(), &packed, bias.data(), s.rows, s.N, s.K, s.N, dtype});
      expect_within("out", out.read(gpu), reference::forward(layer->exact, true), dtype, s.K + 1);
    }
  }
}

// Tensors that begin anywhere: the library must be told, since it takes them to lie on 256 bytes.
TEST(CudaLinear, TakesTensorsThatAreNotAligned) {
  Gpu gpu;
  const Shape s{9, 16, 8};
  for (DType dtype : kBothTypes) {
    const Layer layer(s, dtype);
    const Tensor in(gpu, dtype, layer.in, 1), weight(gpu, dtype, layer.weight, 3),
        out(gpu, dtype, s.rows * s.N, 5);
    PackedWeight packed = weight_of(weight, s, dtype);
    gpu.run(kernels::linear_forward,
            LinearForward{out.data(), in.data(), &packed, nullptr, s.rows, s.N, s.K, s.N, dtype});
    expect_within("out", out.read(gpu), reference::forward(layer.exact, false), dtype, s.K);
  }
}

}  // namespace
}  // namespace kiln::tests::linear_test
