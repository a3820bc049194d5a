// The linear kernels against the libraries called plainly: dnnl_sgemm in tiles of 256 x 384 over the same
// threads, and OpenBLAS with its own. Cores are shared and change speed, so one iteration runs all three
// after each other, and what counts are the medians of the ratios within an iteration (above 1: Kiln is
// faster). Kiln adds its bias meanwhile.
//
//   kiln_bench_linear --benchmark_filter='d_weight.*' [--threads=N]
//
// With one thread CPU time is measured, so ratios hold on a busy machine too.
#include <benchmark/benchmark.h>
#include <cblas.h>
#include <time.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <string_view>
#include <vector>

#include "kernels/cpu/common/matmul.h"
#include "kernels/table.h"
#include "src/core/shape.h"
#include "tests/bench/arguments.h"

namespace kiln {
namespace {

struct Shape3 {
  int64_t rows, N, K;
};
constexpr Shape3 kShapes[] = {{2048, 1152, 384}, {2048, 384, 384}, {2048, 1536, 384}, {2048, 384, 1536},
                              {1024, 8192, 384}, {2048, 384, 128}, {2048, 128, 128},  {2048, 512, 128},
                              {2048, 128, 512},  {1024, 320, 128}, {1024, 2304, 768}, {1024, 3072, 768},
                              {1024, 768, 3072}, {512, 50304, 768}};

struct FreeAligned {
  void operator()(char* p) const { ::operator delete[](p, std::align_val_t{Plan::kAlignment}); }
};
using Memory = std::unique_ptr<char[], FreeAligned>;
Memory bytes(size_t count) {
  return Memory(new (std::align_val_t{Plan::kAlignment}) char[std::max<size_t>(count, 1)]());
}
struct Floats {
  Memory memory;
  explicit Floats(int64_t count) : memory(bytes(static_cast<size_t>(count) * sizeof(float))) {
    for (int64_t i = 0; i < count; i++) data()[i] = static_cast<float>(i * 7919 % 1009) * 1e-3f - 0.5f;
  }
  float* data() { return reinterpret_cast<float*>(memory.get()); }
};

double median(std::vector<double> x) {
  std::nth_element(x.begin(), x.begin() + static_cast<int64_t>(x.size() / 2), x.end());
  return x[x.size() / 2];
}

// Seconds; of one thread the CPU time, which other programs disturb less.
double timed(int threads, const std::function<void()>& f) {
  const auto now = [&] {
    timespec t{};
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  };
  const double begin = now();
  f();
  return now() - begin;
}

// A row-major product c (+)= op(a) op(b), as both libraries understand it.
struct Product {
  bool a_transposed, b_transposed, accumulate;
  int64_t M, N, K;
  const float *a, *b;
  float* c;
  int64_t lda() const { return a_transposed ? M : K; }
  int64_t ldb() const { return b_transposed ? K : N; }
};

void tiled_dnnl_sgemm(ThreadPool& pool, const Product& p) {
  constexpr int64_t kRows = 256, kColumns = 384;
  const int64_t row_tiles = ceil_div(p.M, kRows), column_tiles = ceil_div(p.N, kColumns);
  pool.parallel_for(row_tiles * column_tiles, 1, [&](int64_t tile, int64_t, int) {
    kernels::cpu::use_one_openmp_thread();
    const int64_t m = tile % row_tiles * kRows, n = tile / row_tiles * kColumns;
    dnnl_sgemm(p.a_transposed ? 'T' : 'N', p.b_transposed ? 'T' : 'N', std::min(kRows, p.M - m),
               std::min(kColumns, p.N - n), p.K, 1.0f, p.a + (p.a_transposed ? m : m * p.K), p.lda(),
               p.b + (p.b_transposed ? n * p.K : n), p.ldb(), p.accumulate ? 1.0f : 0.0f, p.c + m * p.N + n,
               p.N);
  });
}

void threaded_openblas(int threads, const Product& p) {
  const auto transposition = [](bool transposed) { return transposed ? CblasTrans : CblasNoTrans; };
  openblas_set_num_threads(threads);
  cblas_sgemm(CblasRowMajor, transposition(p.a_transposed), transposition(p.b_transposed),
              static_cast<int>(p.M), static_cast<int>(p.N), static_cast<int>(p.K), 1.0f, p.a,
              static_cast<int>(p.lda()), p.b, static_cast<int>(p.ldb()), p.accumulate ? 1.0f : 0.0f, p.c,
              static_cast<int>(p.N));
  openblas_set_num_threads(1);
}

enum class Operation { forward, forward_repacked, d_in, d_weight };

void compare(benchmark::State& state, Operation operation, Shape3 s, int threads) {
  ThreadPool pool(threads);
  Context context;
  context.device = cpu_device(threads);
  context.pool = &pool;
  Floats in(s.rows * s.K), weight(s.N * s.K), bias(s.N), out(s.rows * s.N);
  uint64_t version = 1;
  const Memory storage = bytes(kernels::packed_weight_bytes(s.N, s.K, DType::f32, context.device, true));
  kernels::PackedWeight packed{
      .weight = weight.data(), .version = &version, .storage = storage.get(), .N = s.N, .K = s.K};

  const auto ours = [&] {
    const DType f32 = DType::f32;
    if (operation == Operation::forward_repacked) version++;
    if (operation == Operation::d_in) {
      kernels::linear_backward_input(context,
                                     {in.data(), out.data(), &packed, s.rows, s.N, s.K, s.N, false, f32});
    } else if (operation == Operation::d_weight) {
      kernels::linear_backward_weight(
          context, {weight.data(), bias.data(), out.data(), in.data(), s.rows, s.N, s.K, s.N, f32});
    } else {
      kernels::linear_forward(context,
                              {out.data(), in.data(), &packed, bias.data(), s.rows, s.N, s.K, s.N, f32});
    }
  };
  Product plain{false, true, false, s.rows, s.N, s.K, in.data(), weight.data(), out.data()};
  if (operation == Operation::d_in)
    plain = {false, false, false, s.rows, s.K, s.N, out.data(), weight.data(), in.data()};
  if (operation == Operation::d_weight)
    plain = {true, false, true, s.N, s.K, s.rows, out.data(), in.data(), weight.data()};

  DryRun record;
  context.dry_run = &record;
  ours();
  context.dry_run = nullptr;
  const Memory workspace = bytes(record.workspace_bytes);
  context.workspace = Workspace(workspace.get(), record.workspace_bytes);
  const auto dnnl = [&] { tiled_dnnl_sgemm(pool, plain); };
  const auto blas = [&] { threaded_openblas(threads, plain); };
  ours(), dnnl(), blas();

  // The order rotates: whoever comes later finds warmer caches.
  const std::function<void()> contestants[] = {ours, dnnl, blas};
  std::vector<double> times, to_dnnl, to_blas;
  size_t first = 0;
  for (auto _ : state) {
    double seconds[3];
    for (size_t i = 0; i < 3; i++) seconds[(first + i) % 3] = timed(threads, contestants[(first + i) % 3]);
    first++;
    state.SetIterationTime(seconds[0]);
    times.push_back(seconds[0]);
    to_dnnl.push_back(seconds[1] / seconds[0]);
    to_blas.push_back(seconds[2] / seconds[0]);
  }
  const double flops =
      2e-9 * static_cast<double>(s.rows) * static_cast<double>(s.N) * static_cast<double>(s.K);
  state.counters["GFLOP/s"] = flops / median(times);
  state.counters["x_dnnl_sgemm"] = median(to_dnnl);
  state.counters["x_openblas"] = median(to_blas);
}

}  // namespace
}  // namespace kiln

int main(int argc, char** argv) {
  using kiln::Operation;
  const auto threads = kiln::initialise_benchmarks(argc, argv);
  if (!threads) return 2;
  for (const auto& [operation, name] :
       {std::pair{Operation::forward, "forward"}, std::pair{Operation::forward_repacked, "forward_repacked"},
        std::pair{Operation::d_in, "d_in"}, std::pair{Operation::d_weight, "d_weight"}}) {
    for (const auto& s : kiln::kShapes) {
      benchmark::RegisterBenchmark(fmt::format("{}/{}x{}x{}", name, s.rows, s.N, s.K).c_str(), kiln::compare,
                                   operation, s, *threads)
          ->UseManualTime()
          ->Unit(benchmark::kMillisecond)
          ->MinTime(0.3);
    }
  }
  benchmark::RunSpecifiedBenchmarks();
}
