// Factorisations multiply back to what was factorised; their factors are what they should be.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/cuda_emulator/libraries/call_log.h"
#include "tests/cuda_emulator/libraries/tests/solver_harness.h"

namespace kiln::emulator::testing {

namespace {

// Backward error of these algorithms: a small multiple of n roundings, relative to the norm of the matrix.
template <class T>
double tolerance(int64_t n, double norm) {
  return 8 * static_cast<double>(n) * static_cast<double>(std::numeric_limits<T>::epsilon()) * norm;
}

template <class T>
struct Layout {
  const std::vector<T>& values;
  int64_t ld, columns;
  double operator()(int64_t i, int64_t j, int64_t batch = 0) const {
    return static_cast<double>(values[static_cast<size_t>((batch * columns + j) * ld + i)]);
  }
};

template <class T>
double frobenius(const Layout<T>& a, int64_t rows, int64_t batch = 0) {
  double sum = 0;
  for (int64_t j = 0; j < a.columns; ++j) {
    for (int64_t i = 0; i < rows; ++i) sum += a(i, j, batch) * a(i, j, batch);
  }
  return std::sqrt(sum);
}

template <class T>
class Factorisations : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Factorisations, Types);

cusolverStatus_t orgqr(Solver& s, int m, int n, int k, float* a, int lda, const float* tau) {
  int length = 0;
  cusolverDnSorgqr_bufferSize(s.handle, m, n, k, a, lda, tau, &length);
  s.make_room(static_cast<size_t>(length) * sizeof(float), 0);
  return cusolverDnSorgqr(s.handle, m, n, k, a, lda, tau, reinterpret_cast<float*>(s.on_device->data()),
                          length, s.info.data());
}

cusolverStatus_t orgqr(Solver& s, int m, int n, int k, double* a, int lda, const double* tau) {
  int length = 0;
  cusolverDnDorgqr_bufferSize(s.handle, m, n, k, a, lda, tau, &length);
  s.make_room(static_cast<size_t>(length) * sizeof(double), 0);
  return cusolverDnDorgqr(s.handle, m, n, k, a, lda, tau, reinterpret_cast<double*>(s.on_device->data()),
                          length, s.info.data());
}

TYPED_TEST(Factorisations, QrMultipliesBack) {
  using T = TypeParam;
  const int shapes[][3] = {{1, 1, 1}, {7, 5, 9}, {13, 13, 13}, {65, 31, 67}};
  for (const auto& [m, n, ld] : shapes) {
    std::mt19937 random(3);
    const std::vector<T> before = random_matrix<T>(random, ld, n);
    const Layout<T> a{before, ld, n};
    DeviceArray<T> memory(before), tau(static_cast<size_t>(n));
    Solver solver;
    ASSERT_EQ(solver.geqrf<T>(m, n, memory.data(), ld, tau.data()), CUSOLVER_STATUS_SUCCESS);
    EXPECT_EQ(solver.info.read()[0], 0);
    const std::vector<T> factored = memory.read();
    ASSERT_EQ(orgqr(solver, m, n, n, memory.data(), ld, tau.data()), CUSOLVER_STATUS_SUCCESS);
    EXPECT_EQ(solver.info.read()[0], 0);
    const std::vector<T> columns = memory.read();
    const Layout<T> r{factored, ld, n}, q{columns, ld, n};
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t i = 0; i < m; ++i) {
        double sum = 0;
        for (int64_t p = 0; p <= j; ++p) sum += q(i, p) * r(p, j);
        ASSERT_NEAR(sum, a(i, j), tolerance<T>(m, frobenius(a, m)));
      }
      for (int64_t other = 0; other <= j; ++other) {
        double sum = 0;
        for (int64_t i = 0; i < m; ++i) sum += q(i, j) * q(i, other);
        ASSERT_NEAR(sum, j == other ? 1 : 0, tolerance<T>(m, 1));
      }
    }
  }
}

TYPED_TEST(Factorisations, CholeskyMultipliesBack) {
  using T = TypeParam;
  for (const int64_t n : {1, 6, 33}) {
    for (const auto fill : {CUBLAS_FILL_MODE_LOWER, CUBLAS_FILL_MODE_UPPER}) {
      const bool lower = fill == CUBLAS_FILL_MODE_LOWER;
      std::mt19937 random(3);
      std::vector<T> before = symmetric_matrices<T>(random, n, n + 2, 1, true);
      for (int64_t j = 0; j < n; ++j) {  // what is in the other triangle must stay
        for (int64_t i = 0; i < n; ++i) {
          if (lower ? i < j : i > j) before[static_cast<size_t>(j * (n + 2) + i)] = 77;
        }
      }
      const Layout<T> a{before, n + 2, n};
      DeviceArray<T> memory(before);
      Solver solver;
      ASSERT_EQ(solver.potrf<T>(fill, n, memory.data(), n + 2), CUSOLVER_STATUS_SUCCESS);
      EXPECT_EQ(solver.info.read()[0], 0);
      const std::vector<T> after = memory.read();
      const Layout<T> l{after, n + 2, n};
      for (int64_t j = 0; j < n; ++j) {
        for (int64_t i = j; i < n; ++i) {
          double sum = 0;
          for (int64_t p = 0; p <= j; ++p) sum += lower ? l(i, p) * l(j, p) : l(p, i) * l(p, j);
          ASSERT_NEAR(sum, lower ? a(i, j) : a(j, i), tolerance<T>(n, static_cast<double>(2 * n)));
          if (i != j) {
            ASSERT_EQ(lower ? l(j, i) : l(i, j), 77);
          }
        }
      }
    }
  }
}

template <class T>
cusolverStatus_t potrf_batched(Solver& s, int n, T** matrices, int lda, int count) {
  if constexpr (std::is_same_v<T, float>) {
    return cusolverDnSpotrfBatched(s.handle, CUBLAS_FILL_MODE_UPPER, n, matrices, lda, s.info.data(), count);
  } else {
    return cusolverDnDpotrfBatched(s.handle, CUBLAS_FILL_MODE_UPPER, n, matrices, lda, s.info.data(), count);
  }
}

TYPED_TEST(Factorisations, CholeskyOfABatchNamesWhatIsNotDefinite) {
  using T = TypeParam;
  const int n = 9, count = 3;
  std::mt19937 random(8);
  std::vector<T> before = symmetric_matrices<T>(random, n, n, count, true);
  before[static_cast<size_t>(1 * n * n + 4 * n + 4)] = -1;  // the minor of order 5 of the second
  const Layout<T> a{before, n, n};
  DeviceArray<T> memory(before);
  DeviceArray<T*> pointers(std::vector<T*>{memory.data(), memory.data() + n * n, memory.data() + 2 * n * n});
  Solver solver;
  ASSERT_EQ(potrf_batched<T>(solver, n, pointers.data(), n, count), CUSOLVER_STATUS_SUCCESS);
  const std::vector<int> info = solver.info.read();
  EXPECT_EQ(info[0], 0);
  EXPECT_EQ(info[1], 5);
  EXPECT_EQ(info[2], 0);
  const std::vector<T> after = memory.read();
  const Layout<T> u{after, n, n};
  EXPECT_TRUE(std::isnan(u(0, 0, 1)));
  for (int64_t i = 0; i < n; ++i) {
    double sum = 0;
    for (int64_t p = 0; p <= i; ++p) sum += u(p, i, 2) * u(p, n - 1, 2);
    EXPECT_NEAR(sum, a(i, n - 1, 2), tolerance<T>(n, 2 * n));
  }
}

TYPED_TEST(Factorisations, EigenvectorsMultiplyBack) {
  using T = TypeParam;
  for (const int64_t count : {1, 3}) {
    for (const int64_t n : {1, 8, 31}) {
      for (const auto fill : {CUBLAS_FILL_MODE_LOWER, CUBLAS_FILL_MODE_UPPER}) {
        std::mt19937 random(6);
        const int64_t ld = n + 1;
        const std::vector<T> before = symmetric_matrices<T>(random, n, ld, count, false);
        const Layout<T> a{before, ld, n};
        DeviceArray<T> memory(before), eigenvalues(static_cast<size_t>(n * count));
        Solver solver;
        ASSERT_EQ(
            solver.syev<T>(CUSOLVER_EIG_MODE_VECTOR, fill, n, memory.data(), ld, eigenvalues.data(), count),
            CUSOLVER_STATUS_SUCCESS);
        const std::vector<T> after = memory.read(), w = eigenvalues.read();
        const Layout<T> v{after, ld, n};
        DeviceArray<T> again(before), values_only(static_cast<size_t>(n * count));
        ASSERT_EQ(
            solver.syev<T>(CUSOLVER_EIG_MODE_NOVECTOR, fill, n, again.data(), ld, values_only.data(), count),
            CUSOLVER_STATUS_SUCCESS);
        const std::vector<T> w_only = values_only.read();
        for (int64_t b = 0; b < count; ++b) {
          EXPECT_EQ(solver.info.read()[static_cast<size_t>(b)], 0);
          const double allowed = tolerance<T>(n, frobenius(a, n, b));
          for (int64_t j = 0; j < n; ++j) {
            const auto at = static_cast<size_t>(b * n + j);
            if (j > 0) {
              ASSERT_LE(w[at - 1], w[at]);
            }
            ASSERT_NEAR(w[at], w_only[at], allowed);
            for (int64_t i = 0; i < n; ++i) {
              double sum = 0;
              for (int64_t p = 0; p < n; ++p) sum += a(i, p, b) * v(p, j, b);
              ASSERT_NEAR(sum, static_cast<double>(w[at]) * v(i, j, b), allowed);
            }
          }
        }
        EXPECT_TRUE(std::isnan(again.read()[0]));  // destroyed
      }
    }
  }
}

TYPED_TEST(Factorisations, EigenvaluesOfWhatIsNotFiniteAreNan) {
  using T = TypeParam;
  std::vector<T> values{1, 0, 0, std::numeric_limits<T>::infinity()};
  DeviceArray<T> memory(values), w(2);
  Solver solver;
  ASSERT_EQ(
      solver.syev<T>(CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, 2, memory.data(), 2, w.data(), 1),
      CUSOLVER_STATUS_SUCCESS);
  EXPECT_TRUE(std::isnan(w.read()[0]));
  EXPECT_TRUE(std::isnan(memory.read()[3]));
}

TEST(SolverLog, NamesTheCalls) {
  std::mt19937 random(6);
  DeviceArray<float> a(random_matrix<float>(random, 4, 3)), tau(3);
  Solver solver;
  clear_library_calls();
  ASSERT_EQ(solver.geqrf<float>(4, 3, a.data(), 4, tau.data()), CUSOLVER_STATUS_SUCCESS);
  ASSERT_EQ(library_calls().size(), 1u);
  EXPECT_EQ(library_calls()[0].api, "cusolverDnXgeqrf");
  EXPECT_EQ(library_calls()[0].m, 4);
  EXPECT_EQ(library_calls()[0].n, 3);
  cudaDeviceSynchronize();
}

}  // namespace

}  // namespace kiln::emulator::testing
