// What cublasLtMatmul computes, against sums in fp64 written out here, on odd shapes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "tests/cuda_emulator/libraries/call_log.h"
#include "tests/cuda_emulator/libraries/tests/lt_harness.h"

namespace kiln::emulator::testing {

namespace {

using Matrix = std::function<double(int64_t, int64_t, int64_t)>;  // (batch, row, column)

// Inputs for a shape, with NaN between columns and between matrices.
struct Inputs {
  Inputs(const LtShape& s, unsigned seed) : shape(s), random(seed) {
    a = fill(s.in, s.a_rows(), s.a_columns());
    b = fill(s.in, s.b_rows(), s.b_columns());
    c = fill(s.out, s.m, s.n);
    d = std::make_unique<TypedArray>(s.out, static_cast<size_t>(s.count * s.stride(s.m, s.n)));
  }

  std::unique_ptr<TypedArray> fill(cudaDataType type, int64_t rows, int64_t columns) {
    std::vector<float> values(static_cast<size_t>(shape.count * shape.stride(rows, columns)), NAN);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (int64_t batch = 0; batch < shape.count; ++batch) {
      for (int64_t j = 0; j < columns; ++j) {
        for (int64_t i = 0; i < rows; ++i) values[shape.index(rows, columns, batch, i, j)] = uniform(random);
      }
    }
    return std::make_unique<TypedArray>(type, values);
  }
  double op_a(int64_t batch, int64_t i, int64_t p) const {
    return a->values()[shape.a_transposed ? shape.index(shape.k, shape.m, batch, p, i)
                                          : shape.index(shape.m, shape.k, batch, i, p)];
  }
  double op_b(int64_t batch, int64_t p, int64_t j) const {
    return b->values()[shape.b_transposed ? shape.index(shape.n, shape.k, batch, j, p)
                                          : shape.index(shape.k, shape.n, batch, p, j)];
  }
  double product(int64_t batch, int64_t i, int64_t j) const {
    double sum = 0;
    for (int64_t p = 0; p < shape.k; ++p) sum += op_a(batch, i, p) * op_b(batch, p, j);
    return sum;
  }
  double added(int64_t batch, int64_t i, int64_t j) const {
    return c->values()[shape.index(shape.m, shape.n, batch, i, j)];
  }

  LtShape shape;
  std::mt19937 random;
  std::unique_ptr<TypedArray> a, b, c, d;
};

// Factors are at most 1: k products and their sums err by at most k (k + 1) / 2 roundings of fp32 (2^-24 each, relative
// to at most k), few more come from alpha, beta and the epilogue; one rounding to the type of the output (bf16 has 8 bits: 2^-8).
double tolerance(const LtShape& s, double value) {
  const double k = static_cast<double>(s.k);
  const double sums = std::ldexp(k * (k + 1) / 2 + 8 * (k + 2), -24);
  return sums + (s.out == CUDA_R_16BF ? std::ldexp(std::abs(value) + sums, -8) : 0);
}

// What lies between is to stay NaN.
void expect_matrix(const LtShape& s, const std::vector<float>& got, const Matrix& expected) {
  const auto written = std::count_if(got.begin(), got.end(), [](float value) { return !std::isnan(value); });
  ASSERT_EQ(written, s.count * s.m * s.n);
  for (int64_t batch = 0; batch < s.count; ++batch) {
    for (int64_t i = 0; i < s.m; ++i) {
      for (int64_t j = 0; j < s.n; ++j) {
        const double value = expected(batch, i, j);
        ASSERT_NEAR(got[s.index(s.m, s.n, batch, i, j)], value, tolerance(s, value))
            << "m " << s.m << " n " << s.n << " k " << s.k << " at " << batch << ", " << i << ", " << j;
      }
    }
  }
}

std::vector<LtShape> odd_shapes() {
  std::vector<LtShape> shapes;
  const int64_t sizes[][3] = {{1, 1, 1}, {5, 7, 3}, {13, 1, 17}, {1, 19, 2}, {33, 31, 65}};
  for (const auto& [m, n, k] : sizes) {
    for (const int transposes : {0, 1, 2, 3}) {
      for (const int types : {0, 1, 2}) {
        LtShape s{.m = m, .n = n, .k = k};
        s.a_transposed = (transposes & 1) != 0;
        s.b_transposed = (transposes & 2) != 0;
        s.in = types == 0 ? CUDA_R_32F : CUDA_R_16BF;
        s.out = types == 1 ? CUDA_R_16BF : CUDA_R_32F;
        shapes.push_back(s);
      }
    }
  }
  return shapes;
}

TEST(LtMatmul, MultipliesAllTransposesAndTypes) {
  unsigned seed = 1;
  for (LtShape s : odd_shapes()) {
    for (const int64_t padding : {0, 3}) {
      s.padding = padding;
      Inputs in(s, seed++);
      LtMatmul matmul(s);
      ASSERT_EQ(matmul.choose(), CUBLAS_STATUS_SUCCESS);
      ASSERT_EQ(matmul.run(in.a->data(), in.b->data(), in.d->data(), in.d->data()), CUBLAS_STATUS_SUCCESS);
      expect_matrix(s, in.d->read(), [&](auto... at) { return in.product(at...); });
    }
  }
}

TEST(LtMatmul, ScalesAndAdds) {
  for (LtShape s : odd_shapes()) {
    Inputs in(s, 7);
    LtMatmul matmul(s);
    matmul.alpha = -0.75f;
    matmul.beta = 0.5f;
    const auto expected = [&](auto... at) { return -0.75 * in.product(at...) + 0.5 * in.added(at...); };
    ASSERT_EQ(matmul.choose(), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(matmul.run(in.a->data(), in.b->data(), in.c->data(), in.d->data()), CUBLAS_STATUS_SUCCESS);
    expect_matrix(s, in.d->read(), expected);
    ASSERT_EQ(matmul.run(in.a->data(), in.b->data(), in.c->data(), in.c->data()),
              CUBLAS_STATUS_SUCCESS);  // in place
    expect_matrix(s, in.c->read(), expected);
  }
}

TEST(LtMatmul, TakesFactorsFromTheDevice) {
  const LtShape s;
  Inputs in(s, 3);
  LtMatmul matmul(s);
  DeviceArray<float> factors(std::vector<float>{2, -1});
  matmul.set(CUBLASLT_MATMUL_DESC_POINTER_MODE, int32_t{CUBLASLT_POINTER_MODE_DEVICE});
  matmul.alpha_pointer = factors.data();
  matmul.beta_pointer = factors.data() + 1;
  ASSERT_EQ(matmul.choose(), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(matmul.run(in.a->data(), in.b->data(), in.c->data(), in.d->data()), CUBLAS_STATUS_SUCCESS);
  expect_matrix(s, in.d->read(), [&](auto... at) { return 2 * in.product(at...) - in.added(at...); });
}

TEST(LtMatmul, RowMajorMatrices) {
  for (LtShape s : odd_shapes()) {
    s.by_rows = true;
    s.padding = 2;
    Inputs in(s, 11);
    LtMatmul matmul(s);
    ASSERT_EQ(matmul.choose(), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(matmul.run(in.a->data(), in.b->data(), in.d->data(), in.d->data()), CUBLAS_STATUS_SUCCESS);
    expect_matrix(s, in.d->read(), [&](auto... at) { return in.product(at...); });
  }
}

TEST(LtMatmul, BatchesByStride) {
  for (LtShape s : odd_shapes()) {
    s.count = 3;
    s.gap = 5;
    s.padding = 1;
    Inputs in(s, 5);
    LtMatmul matmul(s);
    matmul.beta = 1;
    ASSERT_EQ(matmul.choose(), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(matmul.run(in.a->data(), in.b->data(), in.c->data(), in.d->data()), CUBLAS_STATUS_SUCCESS);
    expect_matrix(s, in.d->read(), [&](auto... at) { return in.product(at...) + in.added(at...); });
  }
}

TEST(LtMatmul, BatchesByPointers) {
  LtShape s{.m = 5, .n = 7, .k = 3, .b_transposed = true};
  s.count = 4;
  s.gap = 9;
  Inputs in(s, 5);
  LtMatmul matmul(s);
  for (const auto layout : {matmul.a, matmul.b, matmul.c, matmul.d})
    matmul.set(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_MODE, uint32_t{CUBLASLT_BATCH_MODE_POINTER_ARRAY});
  for (const auto each :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    matmul.prefer(each, uint32_t{4});
  const auto pointers = [&](TypedArray& array, int64_t rows, int64_t columns) {
    std::vector<float*> all;
    for (const int64_t i : {2, 0, 3, 1})
      all.push_back(static_cast<float*>(array.data()) + i * s.stride(rows, columns));
    return std::make_unique<DeviceArray<float*>>(all);
  };
  const auto as = pointers(*in.a, s.m, s.k), bs = pointers(*in.b, s.n, s.k), ds = pointers(*in.d, s.m, s.n);
  ASSERT_EQ(matmul.choose(), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(matmul.run(as->data(), bs->data(), ds->data(), ds->data()), CUBLAS_STATUS_SUCCESS);
  expect_matrix(s, in.d->read(), [&](auto... at) { return in.product(at...); });
}

double gelu(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

TEST(LtMatmul, AddsABiasAndAppliesGelu) {
  for (LtShape s : odd_shapes()) {
    s.count = 2;
    for (const auto epilogue : {CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_GELU, CUBLASLT_EPILOGUE_GELU_BIAS,
                                CUBLASLT_EPILOGUE_GELU_AUX, CUBLASLT_EPILOGUE_GELU_AUX_BIAS}) {
      Inputs in(s, 9);
      TypedArray bias(s.out, random_values(in.random, static_cast<size_t>(s.count * s.m)));
      const int64_t aux_ld = (s.m + 7) / 8 * 8;
      TypedArray aux(s.out, static_cast<size_t>(s.count * aux_ld * s.n));
      LtMatmul matmul(s);
      matmul.set(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t{epilogue});
      matmul.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias.data());
      matmul.set(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, s.m);
      matmul.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux.data());
      matmul.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, aux_ld);
      matmul.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, aux_ld * s.n);
      ASSERT_EQ(matmul.choose(), CUBLAS_STATUS_SUCCESS);
      ASSERT_EQ(matmul.run(in.a->data(), in.b->data(), in.d->data(), in.d->data()), CUBLAS_STATUS_SUCCESS);
      const bool has_bias = (epilogue & CUBLASLT_EPILOGUE_BIAS) != 0,
                 has_gelu = (epilogue & CUBLASLT_EPILOGUE_GELU) != 0;
      const auto before = [&](int64_t batch, int64_t i, int64_t j) {
        return in.product(batch, i, j) + (has_bias ? bias.values()[static_cast<size_t>(batch * s.m + i)] : 0);
      };
      expect_matrix(s, in.d->read(),
                    [&](auto... at) { return has_gelu ? gelu(before(at...)) : before(at...); });
      if ((epilogue & 128) == 0) continue;
      const std::vector<float> kept = aux.read();
      for (int64_t i = 0; i < s.m; ++i) {
        const double value = before(1, i, s.n - 1);
        ASSERT_NEAR(kept[static_cast<size_t>((2 * s.n - 1) * aux_ld + i)], value, tolerance(s, value));
      }
    }
  }
}

TEST(LtMatmul, AppliesTheSlopeOfGelu) {
  LtShape s{.m = 9, .n = 5, .k = 4};
  Inputs in(s, 21);
  TypedArray aux(s.out, random_values(in.random, static_cast<size_t>(16 * s.n)));
  TypedArray gradient(s.out, static_cast<size_t>(s.m));
  LtMatmul matmul(s);
  matmul.set(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t{CUBLASLT_EPILOGUE_DGELU_BGRAD});
  matmul.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, gradient.data());
  matmul.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux.data());
  matmul.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{16});
  ASSERT_EQ(matmul.choose(), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(matmul.run(in.a->data(), in.b->data(), in.d->data(), in.d->data()), CUBLAS_STATUS_SUCCESS);
  const auto expected = [&](int64_t batch, int64_t i, int64_t j) {
    const double x = aux.values()[static_cast<size_t>(j * 16 + i)], h = 1e-5;
    return in.product(batch, i, j) * (gelu(x + h) - gelu(x - h)) / (2 * h);
  };
  expect_matrix(s, in.d->read(), expected);
  const std::vector<float> sums = gradient.read();
  for (int64_t i = 0; i < s.m; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < s.n; ++j) sum += expected(0, i, j);
    EXPECT_NEAR(sums[static_cast<size_t>(i)], sum, 10 * tolerance(s, sum));
  }
}

TEST(LtMatmul, SumsTheInputsForBiasGradients) {
  for (const LtShape& s : odd_shapes()) {
    for (const auto epilogue : {CUBLASLT_EPILOGUE_BGRADA, CUBLASLT_EPILOGUE_BGRADB}) {
      Inputs in(s, 2);
      const bool of_a = epilogue == CUBLASLT_EPILOGUE_BGRADA;
      const int64_t length = of_a ? s.m : s.n;
      TypedArray gradient(s.out, static_cast<size_t>(length));
      LtMatmul matmul(s);
      matmul.beta = 1;
      matmul.set(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t{epilogue});
      matmul.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, gradient.data());
      ASSERT_EQ(matmul.choose(), CUBLAS_STATUS_SUCCESS);
      ASSERT_EQ(matmul.run(in.a->data(), in.b->data(), in.c->data(), in.c->data()), CUBLAS_STATUS_SUCCESS);
      expect_matrix(s, in.c->read(), [&](auto... at) { return in.product(at...) + in.added(at...); });
      const std::vector<float> sums = gradient.read();
      for (int64_t i = 0; i < length; ++i) {
        double sum = 0;
        for (int64_t p = 0; p < s.k; ++p) sum += of_a ? in.op_a(0, i, p) : in.op_b(0, p, i);
        ASSERT_NEAR(sums[static_cast<size_t>(i)], sum, tolerance(s, sum));
      }
    }
  }
}

TEST(LtMatmul, RoundsOnceAtTheEnd) {
  // 1 + 2^-8 is between two bf16 numbers, as is the sum; rounding the product before adding C would lose 2^-8.
  LtShape s{.m = 1, .n = 1, .k = 2, .in = CUDA_R_16BF, .out = CUDA_R_16BF};
  TypedArray a(s.in, std::vector<float>{1, 0.0625f}), b(s.in, std::vector<float>{1, 0.0625f});
  TypedArray c(s.out, std::vector<float>{0.00390625f}), d(s.out, 1);
  LtMatmul matmul(s);
  matmul.beta = 1;
  ASSERT_EQ(matmul.choose(), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(matmul.run(a.data(), b.data(), c.data(), d.data()), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(d.read()[0], 1.0078125f);
  matmul.beta = 0;  // in the middle between two: to the even one
  ASSERT_EQ(matmul.run(a.data(), b.data(), c.data(), d.data()), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(d.read()[0], 1.0f);
}

TEST(LtMatmul, RunsWhenSomebodyWaits) {
  const LtShape s;
  Inputs in(s, 1);
  LtMatmul matmul(s);
  cudaStream_t stream;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  float* seen = nullptr;
  cudaMallocHost(reinterpret_cast<void**>(&seen), sizeof(float));
  *seen = -5;
  ASSERT_EQ(matmul.choose(), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(matmul.run(in.a->data(), in.b->data(), in.d->data(), in.d->data(), stream),
            CUBLAS_STATUS_SUCCESS);
  cudaMemcpyAsync(seen, in.d->data(), sizeof(float), cudaMemcpyDeviceToHost, stream);
  EXPECT_EQ(*seen, -5);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_NEAR(*seen, in.product(0, 0, 0), 1e-5);
  cudaFreeHost(seen);
  cudaStreamDestroy(stream);
}

TEST(LtMatmul, IsLogged) {
  LtShape s{.m = 5, .n = 7, .k = 3, .a_transposed = true, .count = 2, .in = CUDA_R_16BF};
  Inputs in(s, 1);
  LtMatmul matmul(s);
  clear_library_calls();
  ASSERT_EQ(matmul.choose(), CUBLAS_STATUS_SUCCESS);
  EXPECT_TRUE(library_calls().empty());
  ASSERT_EQ(matmul.run(in.a->data(), in.b->data(), in.d->data(), in.d->data()), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(library_calls().size(), 1u);
  const LibraryCall& call = library_calls()[0];
  EXPECT_EQ(call.api, "cublasLtMatmul");
  EXPECT_EQ(call.m, 5);
  EXPECT_EQ(call.n, 7);
  EXPECT_EQ(call.k, 3);
  EXPECT_EQ(call.count, 2);
  EXPECT_TRUE(call.a_transposed);
  EXPECT_FALSE(call.b_transposed);
  EXPECT_EQ(call.a_type, "CUDA_R_16BF");
  EXPECT_EQ(call.out_type, "CUDA_R_32F");
  EXPECT_EQ(call.epilogue, "DEFAULT");
  EXPECT_EQ(call.beta, 0);
}

}  // namespace

}  // namespace kiln::emulator::testing
