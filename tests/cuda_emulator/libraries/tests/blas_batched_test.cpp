// Batches given by arrays of pointers, against sums in fp64 written out here.
#include <cublas_v2.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "tests/cuda_emulator/libraries/call_log.h"
#include "tests/cuda_emulator/libraries/tests/lt_harness.h"

namespace kiln::emulator::testing {

namespace {

constexpr int kCount = 3;

// Matrices that lie apart, in the order 2, 0, 1, and the array of pointers to them.
struct Batch {
  Batch(cudaDataType type, int64_t rows, int64_t columns, int64_t ld, std::mt19937& random) : ld_(ld) {
    const size_t bytes = type == CUDA_R_32F ? 4 : 2;
    stride_ = (ld * columns * static_cast<int64_t>(bytes) + 15) / 16 * 16 / static_cast<int64_t>(bytes);
    std::vector<float> values(static_cast<size_t>(kCount * stride_), NAN);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (int64_t i = 0; i < kCount; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        for (int64_t r = 0; r < rows; ++r) values[index(i, r, j)] = uniform(random);
      }
    }
    array = std::make_unique<TypedArray>(type, values);
    std::vector<char*> all;
    for (const int64_t i : {2, 0, 1})
      all.push_back(static_cast<char*>(array->data()) + static_cast<size_t>(i * stride_) * bytes);
    pointers = std::make_unique<DeviceArray<char*>>(all);
  }
  size_t index(int64_t i, int64_t row, int64_t column) const {
    return static_cast<size_t>(i * stride_ + column * ld_ + row);
  }
  double at(int64_t i, int64_t row, int64_t column) const { return array->values()[index(i, row, column)]; }
  template <class T>
  T* as() {
    return static_cast<T*>(static_cast<void*>(pointers->data()));
  }

  std::unique_ptr<TypedArray> array;
  std::unique_ptr<DeviceArray<char*>> pointers;

 private:
  int64_t ld_, stride_;
};

struct Blas {
  Blas() {
    cublasCreate(&handle);
    cublasSetMathMode(handle, static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH |
                                                        CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION));
  }
  ~Blas() { cublasDestroy(handle); }
  cublasHandle_t handle = nullptr;
};

struct Case {
  int m, n, k;
  cudaDataType in, out;
};

class BatchedProducts : public ::testing::TestWithParam<Case> {};

TEST_P(BatchedProducts, AgreeWithSums) {
  const auto [m, n, k, in, out] = GetParam();
  for (const auto ta : {CUBLAS_OP_N, CUBLAS_OP_T}) {
    for (const auto tb : {CUBLAS_OP_N, CUBLAS_OP_T}) {
      std::mt19937 random(5);
      Blas blas;
      const int lda = (ta == CUBLAS_OP_N ? m : k) + 2, ldb = (tb == CUBLAS_OP_N ? k : n) + 1, ldc = m + 3;
      Batch a(in, ta == CUBLAS_OP_N ? m : k, ta == CUBLAS_OP_N ? k : m, lda, random);
      Batch b(in, tb == CUBLAS_OP_N ? k : n, tb == CUBLAS_OP_N ? n : k, ldb, random);
      Batch c(out, m, n, ldc, random);
      const float alpha = 1.5f, beta = -0.5f;
      ASSERT_EQ(cublasGemmBatchedEx(blas.handle, ta, tb, m, n, k, &alpha, a.as<const void*>(), in, lda,
                                    b.as<const void*>(), in, ldb, &beta, c.as<void*>(), out, ldc, kCount,
                                    CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                CUBLAS_STATUS_SUCCESS);
      const std::vector<float> got = c.array->read();
      for (int64_t i = 0; i < kCount; ++i) {
        for (int64_t row = 0; row < m; ++row) {
          for (int64_t column = 0; column < n; ++column) {
            double sum = 0;
            for (int64_t p = 0; p < k; ++p) {
              sum += (ta == CUBLAS_OP_N ? a.at(i, row, p) : a.at(i, p, row)) *
                     (tb == CUBLAS_OP_N ? b.at(i, p, column) : b.at(i, column, p));
            }
            const double expected = 1.5 * sum - 0.5 * c.at(i, row, column);
            // k (k + 1) / 2 roundings of sums of at most k, a few more of the rest; bf16 rounds by 2^-8.
            const double sums = 1.5 * std::ldexp(k * (k + 1) / 2 + 4 * (k + 1), -24);
            const double tolerance =
                sums + (out == CUDA_R_16BF ? std::ldexp(std::abs(expected) + sums, -8) : 0);
            ASSERT_NEAR(got[c.index(i, row, column)], expected, tolerance);
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, BatchedProducts,
                         ::testing::Values(Case{5, 7, 3, CUDA_R_32F, CUDA_R_32F},
                                           Case{1, 1, 1, CUDA_R_32F, CUDA_R_32F},
                                           Case{17, 1, 13, CUDA_R_16BF, CUDA_R_32F},
                                           Case{31, 33, 16, CUDA_R_16BF, CUDA_R_16BF},
                                           Case{2, 19, 8, CUDA_R_16BF, CUDA_R_32F}),
                         [](const ::testing::TestParamInfo<Case>& tested) {
                           const Case& c = tested.param;
                           return "m" + std::to_string(c.m) + "n" + std::to_string(c.n) + "k" +
                                  std::to_string(c.k) + (c.in == CUDA_R_32F ? "f32" : "bf16") +
                                  (c.out == CUDA_R_32F ? "f32" : "bf16");
                         });

TEST(Batched, WithoutDepthOnlyWhatIsAddedRemains) {
  std::mt19937 random(2);
  Blas blas;
  Batch c(CUDA_R_32F, 4, 3, 4, random);
  const float alpha = 1, beta = 2;
  ASSERT_EQ(cublasSgemmBatched(blas.handle, CUBLAS_OP_N, CUBLAS_OP_N, 4, 3, 0, &alpha, nullptr, 4, nullptr, 1,
                               &beta, c.as<float*>(), 4, kCount),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(c.array->read()[c.index(1, 2, 2)], 2 * static_cast<float>(c.at(1, 2, 2)));
}

TEST(Batched, TriangularSolves) {
  const int m = 7, n = 5;
  for (const auto side : {CUBLAS_SIDE_LEFT, CUBLAS_SIDE_RIGHT}) {
    for (const auto fill : {CUBLAS_FILL_MODE_LOWER, CUBLAS_FILL_MODE_UPPER}) {
      for (const auto operation : {CUBLAS_OP_N, CUBLAS_OP_T}) {
        std::mt19937 random(9);
        Blas blas;
        const int order = side == CUBLAS_SIDE_LEFT ? m : n;
        // Diagonals of 4 and the rest at most 1/4: well conditioned.
        std::vector<float> triangle(static_cast<size_t>(order * order), NAN);
        std::uniform_real_distribution<float> uniform(-0.25f, 0.25f);
        for (int j = 0; j < order; ++j) {
          for (int i = 0; i < order; ++i) {
            if (i == j) triangle[static_cast<size_t>(j * order + i)] = 4;
            if (fill == CUBLAS_FILL_MODE_LOWER ? i > j : i < j)
              triangle[static_cast<size_t>(j * order + i)] = uniform(random);
          }
        }
        DeviceArray<float> a(triangle);
        DeviceArray<float*> as(std::vector<float*>(kCount, a.data()));
        Batch b(CUDA_R_32F, m, n, m + 1, random);
        const float alpha = 2;
        ASSERT_EQ(cublasStrsmBatched(blas.handle, side, fill, operation, CUBLAS_DIAG_NON_UNIT, m, n, &alpha,
                                     as.data(), order, b.as<float*>(), m + 1, kCount),
                  CUBLAS_STATUS_SUCCESS);
        const std::vector<float> x = b.array->read();
        const auto t = [&](int i, int j) -> double {
          if (operation == CUBLAS_OP_T) std::swap(i, j);
          const bool inside = i == j || (fill == CUBLAS_FILL_MODE_LOWER ? i > j : i < j);
          return inside ? triangle[static_cast<size_t>(j * order + i)] : 0;
        };
        for (int64_t batch = 0; batch < kCount; ++batch) {
          for (int i = 0; i < m; ++i) {
            for (int j = 0; j < n; ++j) {
              double sum = 0;
              for (int p = 0; p < order; ++p) {
                sum += side == CUBLAS_SIDE_LEFT ? t(i, p) * x[b.index(batch, p, j)]
                                                : x[b.index(batch, i, p)] * t(p, j);
              }
              // The residual of a backward stable solve: order * 2^-24 * |T| |x|, with |T| <= 6 and |x| <= 1.
              EXPECT_NEAR(sum, 2 * b.at(batch, i, j), 7 * 6 * std::ldexp(1, -24) * 2);
            }
          }
        }
      }
    }
  }
}

TEST(Batched, FactorsMayLieOnTheDevice) {
  std::mt19937 random(4);
  Blas blas;
  Batch a(CUDA_R_32F, 3, 3, 3, random), b(CUDA_R_32F, 3, 3, 3, random), c(CUDA_R_32F, 3, 3, 3, random);
  DeviceArray<float> factors(std::vector<float>{0, 3});
  cublasSetPointerMode(blas.handle, CUBLAS_POINTER_MODE_DEVICE);
  ASSERT_EQ(
      cublasSgemmBatched(blas.handle, CUBLAS_OP_N, CUBLAS_OP_N, 3, 3, 3, factors.data(), a.as<const float*>(),
                         3, b.as<const float*>(), 3, factors.data() + 1, c.as<float*>(), 3, kCount),
      CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(c.array->read()[c.index(2, 1, 1)], 3 * static_cast<float>(c.at(2, 1, 1)));
}

TEST(Batched, IsLogged) {
  std::mt19937 random(4);
  Blas blas;
  Batch a(CUDA_R_32F, 3, 2, 3, random), c(CUDA_R_32F, 3, 3, 3, random);
  const float one = 1, zero = 0;
  clear_library_calls();
  cublasSgemmBatched(blas.handle, CUBLAS_OP_N, CUBLAS_OP_T, 3, 3, 2, &one, a.as<const float*>(), 3,
                     a.as<const float*>(), 3, &zero, c.as<float*>(), 3, kCount);
  ASSERT_EQ(library_calls().size(), 1u);
  EXPECT_EQ(library_calls()[0].api, "cublasSgemmBatched");
  EXPECT_EQ(library_calls()[0].k, 2);
  EXPECT_EQ(library_calls()[0].count, kCount);
  EXPECT_TRUE(library_calls()[0].b_transposed);
  cudaDeviceSynchronize();
}

}  // namespace

}  // namespace kiln::emulator::testing
