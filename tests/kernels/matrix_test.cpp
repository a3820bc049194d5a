// The optimizers' linear algebra. References are plain fp64 loops; bounds follow from counting roundings.
#include <algorithm>

#include "tests/kernels/support.h"

namespace kiln::tests {
namespace {

using kernels::Along;

// `count` matrices of their own guarded buffers, and the table of pointers to them.
struct Stack {
  Stack(int64_t count, int64_t elements, const char* name, double deviation = 1) {
    for (int64_t k = 0; k < count; k++)
      buffers.push_back(normal(elements, (name + std::to_string(k)).c_str(), deviation));
    for (auto& b : buffers) pointers.push_back(b.data());
  }
  Stack(const Stack& other) : buffers(other.buffers) {
    for (auto& b : buffers) pointers.push_back(b.data());
  }
  float* const* table() { return pointers.data(); }
  std::vector<Guarded<float>> buffers;
  std::vector<float*> pointers;
};

struct ProductCase {
  int64_t M, N, K;
};
constexpr ProductCase kProducts[] = {{1, 1, 1},      {3, 5, 7},      {64, 64, 64}, {33, 100, 17},
                                     {257, 130, 65}, {300, 600, 33}, {5, 4, 0},    {129, 70, 1100}};

double bf16(double x) {
  const auto f = static_cast<float>(x);
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  bits = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}

void expect_product(Isa isa, const ProductCase& c, bool ta, bool tb, bool with_add, DType dtype) {
  SCOPED_TRACE(fmt::format("{} {} x {} x {} {}{}{} {}", name_of(isa), c.M, c.N, c.K, ta, tb, with_add,
                           name_of(dtype)));
  Runner runner(isa, 2);
  const int64_t lda = (ta ? c.M : c.K) + 3, ldb = (tb ? c.K : c.N) + 1;
  Stack a(2, (ta ? c.K : c.M) * lda, "a"), b(2, (tb ? c.N : c.K) * ldb, "b"), add(2, c.M * c.N, "add"),
      out(2, c.M * c.N, "out");
  const auto round = [&](double x) { return dtype == DType::bf16 ? bf16(x) : x; };
  runner.run(kernels::matrix_product, kernels::MatrixProduct{.out = out.table(),
                                                             .a = a.table(),
                                                             .b = b.table(),
                                                             .add = with_add ? add.table() : nullptr,
                                                             .count = 2,
                                                             .M = c.M,
                                                             .N = c.N,
                                                             .K = c.K,
                                                             .lda = lda,
                                                             .ldb = ldb,
                                                             .a_transposed = ta,
                                                             .b_transposed = tb,
                                                             .alpha = -0.5,
                                                             .beta = 0.75,
                                                             .dtype = dtype});
  for (size_t k = 0; k < 2; k++) {
    std::vector<double> expected, magnitude;
    for (int64_t i = 0; i < c.M; i++) {
      for (int64_t j = 0; j < c.N; j++) {
        double sum = 0, size = 0;
        for (int64_t l = 0; l < c.K; l++) {
          const double x = round(a.buffers[k][ta ? l * lda + i : i * lda + l]);
          const double y = round(b.buffers[k][tb ? j * ldb + l : l * ldb + j]);
          sum += x * y, size += std::fabs(x * y);
        }
        const double other = with_add ? 0.75 * add.buffers[k][i * c.N + j] : 0;
        expected.push_back(-0.5 * sum + other);
        magnitude.push_back(0.5 * size + std::fabs(other));
      }
    }
    // Products, their sum in any order, both factors, and the last sum.
    expect_close("out", out.buffers[k], expected,
                 [&](int64_t i) { return (sum_error(c.K) + 5 * kUnit) * magnitude[static_cast<size_t>(i)]; });
  }
}

TEST(MatrixProduct, MatchesReference) {
  for (Isa isa : isas()) {
    for (const ProductCase& c : kProducts) {
      for (const bool ta : {false, true}) {
        for (const bool tb : {false, true}) expect_product(isa, c, ta, tb, ta != tb, DType::f32);
      }
    }
  }
}

TEST(MatrixProduct, RoundsFactorsToBf16) {
  if (!kernels::has_bf16_products(cpu_device(1))) GTEST_SKIP() << "this processor has no AMX";
  for (const ProductCase& c : kProducts) {
    for (const bool tb : {false, true}) {
      for (const bool with_add : {false, true})
        expect_product(Isa::avx512, c, false, tb, with_add, DType::bf16);
    }
  }
}

// Half the products, the same numbers as the whole within rounding, and symmetric to the bit.
TEST(MatrixProduct, SymmetricResults) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    if (dtype == DType::bf16 && !kernels::has_bf16_products(cpu_device(1))) continue;
    for (const auto& [n, K] :
         {std::pair<int64_t, int64_t>{1, 3}, {33, 7}, {129, 40}, {300, 1030}, {600, 20}}) {
      Runner runner(best_isa(), 2);
      Stack a(2, n * K, "a"), add(2, n * n, "add"), half(2, n * n, "half"), whole(half);
      for (auto& m : add.buffers) {
        for (int64_t i = 0; i < n; i++) {
          for (int64_t j = 0; j < i; j++) m[j * n + i] = m[i * n + j];
        }
      }
      kernels::MatrixProduct p{.out = half.table(),
                               .a = a.table(),
                               .b = a.table(),
                               .add = add.table(),
                               .count = 2,
                               .M = n,
                               .N = n,
                               .K = K,
                               .b_transposed = true,
                               .symmetric = true,
                               .alpha = 2,
                               .beta = 0.5,
                               .dtype = dtype};
      EXPECT_EQ(kernels::matrix_product_flops(p), 2.0 * static_cast<double>(n * n * K));
      runner.run(kernels::matrix_product, p);
      p.out = whole.table(), p.symmetric = false;
      runner.run(kernels::matrix_product, p);
      for (size_t k = 0; k < 2; k++) {
        for (int64_t i = 0; i < n; i++) {
          for (int64_t j = 0; j < n; j++) {
            ASSERT_EQ(half.buffers[k][i * n + j], half.buffers[k][j * n + i]) << i << " " << j;
            double size = std::fabs(add.buffers[k][i * n + j]);
            for (int64_t l = 0; l < K; l++)
              size += 2 * std::fabs(a.buffers[k][i * K + l] * a.buffers[k][j * K + l]);
            ASSERT_NEAR(half.buffers[k][i * n + j], whole.buffers[k][i * n + j],
                        (2 * sum_error(K) + 8 * kUnit) * size);
          }
        }
      }
    }
  }
}

TEST(MatrixCombine, AddsScalesAndTransposes) {
  for (Isa isa : isas()) {
    for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 1}, {5, 37}, {65, 33}, {130, 300}}) {
      for (const bool transposed : {false, true}) {
        Runner runner(isa, 2);
        const int64_t ld_x = (transposed ? rows : cols) + 2, ld = cols + 5;
        Stack x(2, (transposed ? cols : rows) * ld_x, "x"), out(2, rows * ld, "out"), before(out);
        const double scale[] = {0.5, -3};
        runner.run(kernels::matrix_combine, kernels::MatrixCombine{.out = out.table(),
                                                                   .x = x.table(),
                                                                   .add = out.table(),
                                                                   .count = 2,
                                                                   .rows = rows,
                                                                   .cols = cols,
                                                                   .ld_out = ld,
                                                                   .ld_x = ld_x,
                                                                   .ld_add = ld,
                                                                   .alpha = 1.5,
                                                                   .beta = -0.25,
                                                                   .scale = scale,
                                                                   .x_transposed = transposed});
        for (size_t k = 0; k < 2; k++) {
          for (int64_t i = 0; i < rows; i++) {
            for (int64_t j = 0; j < ld; j++) {
              const double old = before.buffers[k][i * ld + j], got = out.buffers[k][i * ld + j];
              if (j >= cols) {
                ASSERT_EQ(got, old);
                continue;
              }
              const double term = 1.5 * scale[k] * x.buffers[k][transposed ? j * ld_x + i : i * ld_x + j];
              ASSERT_NEAR(got, term - 0.25 * old, 3 * kUnit * (std::fabs(term) + std::fabs(old)));
            }
          }
        }
      }
    }
  }
}

// q^T q = I and q spans a, for Householder and Cholesky QR, well and badly conditioned.
void expect_orthonormal(const float* q, const std::vector<double>& a, int64_t rows, int64_t cols,
                        double tolerance) {
  for (int64_t i = 0; i < cols; i++) {
    for (int64_t j = 0; j <= i; j++) {
      double dot = 0;
      for (int64_t l = 0; l < rows; l++) dot += static_cast<double>(q[l * cols + i]) * q[l * cols + j];
      ASSERT_NEAR(dot, i == j ? 1 : 0, tolerance) << i << " " << j;
    }
  }
  double lost = 0, all = 0;  // of a outside of q's span
  for (int64_t c = 0; c < cols; c++) {
    std::vector<double> rest;
    for (int64_t l = 0; l < rows; l++) rest.push_back(a[static_cast<size_t>(l * cols + c)]);
    for (double v : rest) all += v * v;
    for (int64_t j = 0; j < cols; j++) {
      double dot = 0;
      for (int64_t l = 0; l < rows; l++) dot += q[l * cols + j] * a[static_cast<size_t>(l * cols + c)];
      for (int64_t l = 0; l < rows; l++) rest[static_cast<size_t>(l)] -= dot * q[l * cols + j];
    }
    for (double v : rest) lost += v * v;
  }
  ASSERT_LE(std::sqrt(lost), tolerance * std::sqrt(all));
}

TEST(MatrixQr, IsOrthonormalAndSpansItsMatrix) {
  for (const auto& [rows, cols] :
       {std::pair<int64_t, int64_t>{1, 1}, {7, 7}, {100, 33}, {129, 128}, {300, 16}}) {
    for (const double grading : {1.0, 1e-5}) {  // size of the last column against the first
      for (const bool cholesky : {false, true}) {
        SCOPED_TRACE(fmt::format("{} x {} grading {} cholesky {}", rows, cols, grading, cholesky));
        Stack a(3, rows * cols, "a"), q(3, rows * cols, "q");
        for (auto& m : a.buffers) {
          for (int64_t i = 0; i < rows * cols; i++) {
            const double part = cols > 1 ? static_cast<double>(i % cols) / static_cast<double>(cols - 1) : 0;
            m[i] *= static_cast<float>(std::pow(grading, part));
          }
        }
        const Stack before(a);
        int32_t status[3] = {7, 7, 7};
        Runner runner(best_isa(), 2);
        if (cholesky) {
          runner.run(kernels::matrix_orthonormalise,
                     kernels::MatrixOrthonormalise{q.table(), a.table(), 3, rows, cols, status});
        } else {
          runner.run(kernels::matrix_qr, kernels::MatrixQr{q.table(), a.table(), 3, rows, cols, status});
        }
        for (size_t k = 0; k < 3; k++) {
          EXPECT_EQ(status[k], kernels::kFactorised);
          // Householder: some rows * cols roundings at worst, their root in practice.
          const double tolerance = 8 * std::sqrt(static_cast<double>(rows * cols)) * kUnit;
          expect_orthonormal(q.buffers[k].data(), to_double(before.buffers[k]), rows, cols, tolerance);
        }
      }
    }
  }
}

TEST(MatrixQr, RetriesInFp64AndKeepsTheOldOnFailure) {
  for (const bool cholesky : {false, true}) {
    Stack a(2, 20 * 6, "a"), q(2, 20 * 6, "q");
    for (int64_t i = 0; i < 120; i++) a.buffers[0][i] *= 1e38f / 4;  // sums overflow fp32
    a.buffers[1][50] = NAN;
    const Stack before(q), original(a);
    int32_t status[2] = {};
    Runner runner(best_isa(), 2);
    if (cholesky) {
      runner.run(kernels::matrix_orthonormalise,
                 kernels::MatrixOrthonormalise{q.table(), a.table(), 2, 20, 6, status});
    } else {
      runner.run(kernels::matrix_qr, kernels::MatrixQr{q.table(), a.table(), 2, 20, 6, status});
    }
    EXPECT_NE(status[0], kernels::kFailed);
    expect_orthonormal(q.buffers[0].data(), to_double(original.buffers[0]), 20, 6, 1e-5);
    EXPECT_EQ(status[1], kernels::kFailed);
    EXPECT_TRUE(q.buffers[1].same_bits(before.buffers[1]));
  }
}

TEST(MatrixEigen, DecomposesAndSurvivesWhatIsNotFinite) {
  for (const int64_t n : {1, 2, 17, 64, 130}) {
    Stack half(2, n * n, "half"), s(2, n * n, "s"), vectors(2, n * n, "vectors"), values(2, n, "values");
    for (size_t k = 0; k < 2; k++) {
      for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j <= i; j++) {
          double dot = 0;
          for (int64_t l = 0; l < n; l++)
            dot += static_cast<double>(half.buffers[k][i * n + l]) * half.buffers[k][j * n + l];
          s.buffers[k][i * n + j] = s.buffers[k][j * n + i] = static_cast<float>(dot);
        }
      }
    }
    s.buffers[1][0] = INFINITY;
    int32_t status[2] = {};
    Runner runner(best_isa(), 2);
    runner.run(kernels::matrix_eigen,
               kernels::MatrixEigen{vectors.table(), values.table(), s.table(), 2, n, status});
    EXPECT_EQ(status[0], kernels::kFactorised);
    EXPECT_EQ(status[1], kernels::kFailed);
    double norm = 0, error = 0;
    for (int64_t i = 0; i < n; i++) {
      EXPECT_EQ(values.buffers[1][i], 1);
      if (i > 0) {
        EXPECT_LE(values.buffers[0][i - 1], values.buffers[0][i]);
      }
      for (int64_t j = 0; j < n; j++) {
        double sum = 0;
        for (int64_t l = 0; l < n; l++) {
          sum += static_cast<double>(vectors.buffers[0][l * n + i]) * values.buffers[0][l] *
                 vectors.buffers[0][l * n + j];
        }
        norm += std::pow(s.buffers[0][i * n + j], 2);
        error += std::pow(sum - s.buffers[0][i * n + j], 2);
        EXPECT_EQ(vectors.buffers[1][i * n + j], i == j ? 1 : 0);
      }
    }
    EXPECT_LE(std::sqrt(error), 8 * static_cast<double>(n) * kUnit * std::sqrt(norm)) << n;
  }
}

TEST(MatrixScale, RaisesFlooredEigenvalues) {
  for (Isa isa : isas()) {
    for (const Along along : {Along::rows, Along::columns}) {
      for (const double power : {-1.0, -0.5, -0.25}) {
        const int64_t rows = 9, cols = 37, n = along == Along::rows ? rows : cols;
        Stack x(2, rows * cols, "x"), l(2, n, "l"), out(2, rows * cols, "out");
        for (auto& v : l.buffers) {
          for (int64_t i = 0; i < n; i++) v[i] = std::fabs(v[i]);
          v[2] = 0;
        }
        Runner runner(isa, 2);
        runner.run(kernels::matrix_scale,
                   kernels::MatrixScale{out.table(), x.table(), l.table(), 2, rows, cols, along, power});
        for (size_t k = 0; k < 2; k++) {
          double mean = 0;
          for (float v : l.buffers[k]) mean += v / static_cast<double>(n);
          for (int64_t i = 0; i < rows * cols; i++) {
            const double value = l.buffers[k][along == Along::rows ? i / cols : i % cols];
            const double expected = x.buffers[k][i] * std::pow(std::max(value, 1e-10 * mean), power);
            // The floor's mean and its product, root of a root, quotient, product.
            ASSERT_NEAR(out.buffers[k][i], expected, 8 * kUnit * std::fabs(expected));
          }
        }
      }
    }
  }
}

TEST(WeightUpdate, DecaysBeforeOrAfter) {
  for (Isa isa : isas()) {
    for (const bool first : {false, true}) {
      for (const bool transposed : {false, true}) {
        const int64_t rows = 21, cols = 35, ld = 40;
        Stack w(2, rows * ld, "w"), u(2, rows * cols, "u"), before(w);
        Runner runner(isa, 2);
        runner.run(kernels::weight_update, kernels::WeightUpdate{.param = w.table(),
                                                                 .update = u.table(),
                                                                 .count = 2,
                                                                 .rows = rows,
                                                                 .cols = cols,
                                                                 .ld = ld,
                                                                 .lr = 0.5,
                                                                 .scale = 0.25,
                                                                 .decay = 0.125,
                                                                 .decay_first = first,
                                                                 .update_transposed = transposed});
        for (size_t k = 0; k < 2; k++) {
          for (int64_t i = 0; i < rows; i++) {
            for (int64_t j = 0; j < ld; j++) {
              const double old = before.buffers[k][i * ld + j], got = w.buffers[k][i * ld + j];
              if (j >= cols) {
                ASSERT_EQ(got, old);
                continue;
              }
              const double step = 0.125 * u.buffers[k][transposed ? j * rows + i : i * cols + j];
              const double expected = first ? old - 0.0625 * old - step : (old - step) * (1 - 0.0625);
              ASSERT_NEAR(got, expected, 4 * kUnit * (std::fabs(old) + std::fabs(step)));
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace kiln::tests
