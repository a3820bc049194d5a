#include "kernels/cpu/common/blas.h"

#include <cblas.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "src/core/shape.h"

namespace kiln::kernels::cpu {
namespace {

// Fixed, so that results do not depend on the number of threads. Each tile packs its share of both factors
// anew, which large tiles amortise; with these, 2048 rows still feed eight threads.
constexpr int64_t kTileRows = 256, kTileColumns = 768;

void multiply_tile(const BlasProduct& p, int64_t m, int64_t n) {
  const int64_t rows = std::min(kTileRows, p.M - m), columns = std::min(kTileColumns, p.N - n);
  float* c = p.c + m * p.ldc + n;
  if (p.bias) {
    for (int64_t r = 0; r < rows; r++) std::copy_n(p.bias + n, columns, c + r * p.ldc);
  }
  const auto transposition = [](bool transposed) { return transposed ? CblasTrans : CblasNoTrans; };
  cblas_sgemm(CblasRowMajor, transposition(p.a_transposed), transposition(p.b_transposed),
              static_cast<int>(rows), static_cast<int>(columns), static_cast<int>(p.K), 1.0f,
              p.a + (p.a_transposed ? m : m * p.lda), static_cast<int>(p.lda),
              p.b + (p.b_transposed ? n * p.ldb : n), static_cast<int>(p.ldb),
              p.accumulate || p.bias ? 1.0f : 0.0f, c, static_cast<int>(p.ldc));
}

}  // namespace

void prepare_blas(ThreadPool& pool) {
  openblas_set_num_threads(1);
  static std::atomic<int> mapped =
      0;  // buffers are the process's, so once is enough for each number of threads
  if (mapped >= pool.size()) return;
  // Large enough for the path that needs a buffer, and repeated until every thread has been at it three
  // times: all of them then hold a buffer at once, also where threads outnumber cores.
  constexpr int kSize = 256, kTimes = 3;
  const int threads = pool.size();
  const std::vector<float> factor(kSize * kSize, 1.0f);
  std::vector<float> products(factor.size() * static_cast<size_t>(threads));
  std::atomic<int> arrived = 0, done = 0;
  pool.parallel_for(threads, 1, [&](int64_t i, int64_t, int) {
    for (arrived++; arrived < threads;) std::this_thread::yield();
    float* c = products.data() + factor.size() * static_cast<size_t>(i);
    for (int times = 0; times < kTimes || done < threads; times++) {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, kSize, kSize, kSize, 1.0f, factor.data(), kSize,
                  factor.data(), kSize, 0.0f, c, kSize);
      if (times + 1 == kTimes) done++;
    }
  });
  mapped = threads;
}

void blas_multiply(ThreadPool& pool, const BlasProduct& p) {
  const int64_t row_tiles = ceil_div(p.M, kTileRows), column_tiles = ceil_div(p.N, kTileColumns);
  pool.parallel_for(row_tiles * column_tiles, 1, [&](int64_t tile, int64_t, int) {
    multiply_tile(p, tile % row_tiles * kTileRows, tile / row_tiles * kTileColumns);
  });
}

}  // namespace kiln::kernels::cpu
