// The linear kernels against a naive fp64 reference, on odd shapes.
//
// Tolerance: a sum of n products computed in fp32, in whatever order and with or without fused multiply-add, differs from
// the exact one by at most gamma(n) = n u / (1 - n u) times the sum S of the magnitudes of its terms (Higham, "Accuracy and
// stability of numerical algorithms", section 3.1), u = 2^-24. A bias or an old gradient is one more term. Results in bf16
// are rounded once more.
//
// Products of bf16 are summed by tensor cores, of which NVIDIA promises neither order nor rounding ("PTX ISA", mma). What
// is known was measured: Fasi, Higham, Mikaitis, Pranesh, "Numerical behavior of NVIDIA tensor cores", PeerJ Computer
// Science 7 (2021), for A100; Khattak, Mikaitis, "Accurate models of NVIDIA tensor cores" (2025), for H100 and B200 too.
// Products are exact. A step adds b of them, 4 at least, to the sum so far: all b + 1 are aligned to the largest and
// cut off, not rounded, below its 24 bits (newer ones keep a bit or two more), added, and the sum is cut off to 24
// bits. With v = 2^-23, each addend that is not zero loses at most v S, and so does the sum: in ceil(n / b) steps
// n + 2 ceil(n / b) <= 1.5 n + 2 times. A library that makes the sum in parts adds no more of them up than there are
// steps: n / 4 + 1; and a bias or an old gradient: 1. With that among the n terms it is less than 2 n + 3 times in all,
// each relative to what has grown by the errors before it: gamma(2 n + 3) of v.
#include "kernels/linear.h"

#include "kernels/cuda/cublaslt.h"
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

double gamma(int64_t operations, double unit) {
  const double nu = static_cast<double>(operations) * unit;
  return nu / (1 - nu);
}

// Of `terms` products of `factors`, and what is added to them, relative to the sum of their magnitudes.
double error_in_fp32(int64_t terms) {
  return gamma(terms, kUnit);
}
double error_of_tensor_cores(int64_t terms) {
  return gamma(2 * terms + 3, 2 * kUnit);
}
// The emulator's library sums in fp32, so it is held to the narrower bound.
double error_of_sum(Gpu& gpu, int64_t terms, DType factors) {
  const bool tensor_cores = factors == DType::bf16 && !gpu.context().device.name.starts_with("CUDA emulator");
  return tensor_cores ? error_of_tensor_cores(terms) : error_in_fp32(terms);
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
                   const reference::Result& expected, DType dtype, double error) {
  expect_close(what, actual, expected.value, dtype,
               [&](int64_t i) { return error * expected.magnitude[static_cast<size_t>(i)]; });
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
                    error_of_sum(gpu, s.K + 1, dtype));
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
      expect_within("d_in", d_in.read(gpu), expected, dtype, error_of_sum(gpu, s.N + 1, dtype));
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
      expect_within("d_weight", d_weight.read(gpu), expected, DType::f32,
                    error_of_sum(gpu, s.rows + 1, dtype));
      reference::Result sums = reference::backward_bias(layer.exact);
      add_initial(sums, bias_before);
      if (with_bias) {
        expect_within("d_bias", d_bias.read(gpu), sums, DType::f32, gamma(s.rows + 1, kUnit));  // no product
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
      expect_within("out", out.read(gpu), reference::forward(layer->exact, true), dtype,
                    error_of_sum(gpu, s.K + 1, dtype));
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
    expect_within("out", out.read(gpu), reference::forward(layer.exact, false), dtype,
                  error_of_sum(gpu, s.K, dtype));
  }
}

// A bias is loaded 16 bytes at a time.
TEST(CudaLinear, TakesABiasOnSixteenBytesAndNoOther) {
  Gpu gpu;
  const Shape s{9, 16, 8};
  for (DType dtype : kBothTypes) {
    const Layer layer(s, dtype);
    const int64_t sixteen = 16 / static_cast<int64_t>(size_of(dtype));
    const Tensor in(gpu, dtype, layer.in), weight(gpu, dtype, layer.weight), out(gpu, dtype, s.rows * s.N),
        bias(gpu, dtype, layer.bias, sixteen), askew(gpu, dtype, layer.bias, sixteen / 2);
    PackedWeight packed = weight_of(weight, s, dtype);
    LinearForward p{out.data(), in.data(), &packed, bias.data(), s.rows, s.N, s.K, s.N, dtype};
    gpu.run(kernels::linear_forward, p);
    expect_within("out", out.read(gpu), reference::forward(layer.exact, true), dtype,
                  error_of_sum(gpu, s.K + 1, dtype));
    p.bias = askew.data();
    EXPECT_THROW(gpu.run(kernels::linear_forward, p), Error);
  }
}

// One algorithm a shape, wherever planned buffers lie; and never more than there is room for.
TEST(CudaLinear, KeepsAsManyShapesAsItSays) {
  Gpu gpu;
  constexpr auto kMost = static_cast<int64_t>(kernels::cuda::kMostLtProducts);
  const std::vector<float> ones(static_cast<size_t>(kMost + 2), 1.0f), three{3.0f};
  const Tensor in(gpu, DType::f32, ones), weight(gpu, DType::f32, three),
      elsewhere(gpu, DType::f32, three, 32);  // 128 bytes further
  for (int64_t rows = 1; rows <= kMost + 2; rows++) {
    const Tensor out(gpu, DType::f32, rows);
    for (const Tensor* from : {&weight, &elsewhere}) {
      PackedWeight packed = weight_of(*from, {rows, 1, 1}, DType::f32);
      gpu.run(kernels::linear_forward,
              LinearForward{out.data(), in.data(), &packed, nullptr, rows, 1, 1, 1, DType::f32});
    }
    EXPECT_EQ(static_cast<int64_t>(kernels::cuda::kept_lt_products(gpu.context())), (rows - 1) % kMost + 1);
    EXPECT_EQ(out.read(gpu), std::vector<float>(static_cast<size_t>(rows), 3.0f));
  }
}

// A sum of products as tensor cores make it, `block` of them a step, without any bits that newer ones keep besides.
double tensor_core_sum(const std::vector<double>& products, size_t block) {
  const auto cut_off = [](double x, double largest) {
    const double last_bit = std::ldexp(1.0, std::ilogb(largest) - 23);
    return std::trunc(x / last_bit) * last_bit;
  };
  double sum = 0;
  for (size_t begin = 0; begin < products.size(); begin += block) {
    const size_t end = std::min(begin + block, products.size());
    double largest = std::fabs(sum), next = 0;
    for (size_t i = begin; i < end; i++) largest = std::max(largest, std::fabs(products[i]));
    for (size_t i = begin; i < end; i++) next += cut_off(products[i], largest);
    next += cut_off(sum, largest);
    sum = cut_off(next, next);
  }
  return sum;
}

// Of bf16 factors, random ones, and such that all terms but the first are lost: the tolerance of fp32 is too narrow there.
TEST(CudaLinear, ToleranceIsWideEnoughForTensorCores) {
  for (size_t n : {1, 2, 3, 4, 5, 8, 31, 64, 1000, 4096}) {
    for (bool worst : {false, true}) {
      const auto count = static_cast<int64_t>(n);
      auto a = gpu_values(count, "a", DType::bf16), b = gpu_values(count, "b", DType::bf16);
      if (worst) {
        a.assign(n, 0x1p-12f), b.assign(n, 0x1.FEp-12f);
        a[0] = b[0] = 1;
      }
      std::vector<double> products;
      double exact = 0, magnitude = 0;
      for (size_t i = 0; i < n; i++) {
        products.push_back(static_cast<double>(a[i]) * static_cast<double>(b[i]));
        exact += products[i];
        magnitude += std::fabs(products[i]);
      }
      for (size_t block : {4, 8, 16}) {
        const double error = std::fabs(tensor_core_sum(products, block) - exact);
        EXPECT_LE(error, error_of_tensor_cores(count) * magnitude) << n << " by " << block;
        if (worst && n > 4) {
          EXPECT_GT(error, error_in_fp32(count) * magnitude) << n << " by " << block;
        }
      }
    }
  }
}

}  // namespace
}  // namespace kiln::tests::linear_test
