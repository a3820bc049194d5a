// The matrix optimizers over the hidden matrices of GPT-2 124M, and Newton-Schulz beside plain products of the library
// that it calls. Cores are shared and change speed, so one iteration runs all contestants after each other, and what
// counts are medians of the ratios within an iteration.
//
//   kiln_bench_optimizers [--threads=N] [--benchmark_filter=steps|newton_schulz]
//
// Of every shape two matrices are run (a shape's matrices are worked on one by one or in parts) and times multiplied up.
// A step is the mean over one period of `refresh` steps, so that the refreshes of bases are in it.
#include <benchmark/benchmark.h>

#include <cblas.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/table.h"
#include "optim/kl_shampoo.h"
#include "optim/muon.h"
#include "optim/pro_kl_shampoo.h"
#include "src/core/random.h"
#include "tests/bench/arguments.h"

namespace kiln {
namespace {

using optim::MatrixBatch;
using optim::Optimizer;

constexpr int64_t kRefresh = 10, kMatrices = 2;

struct Shape {
  int64_t rows, cols, matrices;
};
// GPT-2 124M: queries, keys, values and output of 12 layers, and their two feed-forward matrices.
constexpr Shape kShapes[] = {{768, 768, 48}, {3072, 768, 12}, {768, 3072, 12}};

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> x) {
  std::nth_element(x.begin(), x.begin() + static_cast<int64_t>(x.size() / 2), x.end());
  return x[x.size() / 2];
}

std::vector<float> normals(int64_t count, uint64_t stream, double deviation) {
  std::vector<float> x(static_cast<size_t>(count));
  const Random random(1, stream);
  for (size_t i = 0; i < x.size(); i++) x[i] = static_cast<float>(deviation * random.normal(i));
  return x;
}

struct FreeAligned {
  void operator()(char* p) const { ::operator delete[](p, std::align_val_t{Plan::kAlignment}); }
};
using Memory = std::unique_ptr<char[], FreeAligned>;
Memory bytes(size_t count) {
  return Memory(new (std::align_val_t{Plan::kAlignment}) char[std::max<size_t>(count, 1)]());
}

// Runs `work` dry, then gives it the workspace that it asked for.
Memory make_workspace(Context& context, const std::function<void()>& work, DryRun& record) {
  context.dry_run = &record;
  work();
  context.dry_run = nullptr;
  Memory memory = bytes(record.workspace_bytes);
  context.workspace = Workspace(memory.get(), record.workspace_bytes);
  return memory;
}

// An optimizer with matrices of one shape and two gradients that take turns.
class Contestant {
 public:
  Contestant(std::shared_ptr<Optimizer> optimizer, Shape shape, ThreadPool& pool, const Device& device)
      : optimizer_(std::move(optimizer)) {
    batch_.rows = shape.rows, batch_.cols = batch_.ld = shape.cols;
    const int64_t count = shape.rows * shape.cols;
    for (int64_t k = 0; k < kMatrices; k++) {
      batch_.names.push_back(fmt::format("matrix{}", k));
      params_.push_back(normals(count, 10 + static_cast<uint64_t>(k), 0.02));
      for (uint64_t turn : {1, 2})
        grads_[turn % 2].push_back(normals(count, 100 * turn + static_cast<uint64_t>(k), 1e-3));
    }
    for (auto& p : params_) batch_.param.push_back(p.data());
    batch_.grad.resize(batch_.param.size());
    for (const auto& spec : optimizer_->state(shape.rows, shape.cols)) {
      auto& tensors = batch_.state.emplace_back();
      for (int64_t k = 0; k < kMatrices; k++) {
        state_.push_back(std::make_unique<std::vector<float>>(static_cast<size_t>(spec.rows * spec.cols)));
        tensors.push_back(state_.back()->data());
      }
    }
    context_.device = device;
    context_.pool = &pool;
    DryRun record;
    workspace_ = make_workspace(
        context_, [&] { one_step(); }, record);
    for (int64_t i = 0; i < kRefresh; i++) one_step();  // the seed, and one refresh
  }
  Contestant(const Contestant&) = delete;

  double milliseconds_a_step() {  // of one matrix
    const double seconds = seconds_of([&] {
      for (int64_t i = 0; i < kRefresh; i++) one_step();
    });
    return 1e3 * seconds / static_cast<double>(kRefresh * kMatrices);
  }

 private:
  void one_step() {
    if (context_.dry_run == nullptr) t_++;
    for (size_t k = 0; k < batch_.grad.size(); k++) batch_.grad[k] = grads_[t_ % 2][k].data();
    optimizer_->step(context_, batch_,
                     {.t = std::max<int64_t>(t_, 1), .lr_multiplier = 0.01, .gradient_scale = 1});
  }

  std::shared_ptr<Optimizer> optimizer_;
  Context context_;
  Memory workspace_;
  MatrixBatch batch_;
  std::vector<std::vector<float>> params_;
  std::vector<std::vector<float>> grads_[2];
  std::vector<std::unique_ptr<std::vector<float>>> state_;
  int64_t t_ = 0;
};

struct Entry {
  std::string name;
  std::function<std::shared_ptr<Optimizer>()> make;
};

std::vector<Entry> entries(bool has_bf16) {
  using namespace optim;
  const auto kl = [](Root root) {
    return
        [root] { return std::make_shared<KlShampoo>(KlShampooOptions{.refresh = kRefresh, .root = root}); };
  };
  const auto pro = [](DType factors, Root root) {
    return [=] {
      return std::make_shared<ProKlShampoo>(ProKlShampooOptions{.refresh = kRefresh,
                                                                .root = root,
                                                                .rank = 128,
                                                                .set = &newton_schulz_set("polar_express"),
                                                                .factors = factors});
    };
  };
  const auto muon = [](DType factors) {
    return [=] {
      return std::make_shared<Muon>(MuonOptions{.set = &newton_schulz_set("jordan"), .factors = factors});
    };
  };
  std::vector<Entry> all = {{"kl_shampoo", kl(Root::eigenbasis)},
                            {"pro_r128_f32", pro(DType::f32, Root::eigenbasis)},
                            {"muon_f32", muon(DType::f32)}};
  if (has_bf16) {
    all.push_back({"pro_r128_bf16", pro(DType::bf16, Root::eigenbasis)});
    all.push_back({"muon_bf16", muon(DType::bf16)});
  }
  return all;
}

// Milliseconds that one step of GPT-2 124M spends in each optimizer, and what part of KL-Shampoo's time that is.
void steps(benchmark::State& state, int threads) {
  ThreadPool pool(threads);
  Device device = cpu_device(threads);
  const auto all = entries(kernels::has_bf16_products(device));
  std::map<std::string, std::vector<double>> totals, ratios;
  std::vector<std::vector<std::unique_ptr<Contestant>>> contestants(all.size());
  for (size_t e = 0; e < all.size(); e++) {
    for (const Shape& shape : kShapes) {
      contestants[e].push_back(std::make_unique<Contestant>(all[e].make(), shape, pool, device));
    }
  }
  for (auto _ : state) {
    std::vector<double> of_step(all.size(), 0.0);
    for (size_t s = 0; s < std::size(kShapes); s++) {
      for (size_t e = 0; e < all.size(); e++) {
        of_step[e] += static_cast<double>(kShapes[s].matrices) * contestants[e][s]->milliseconds_a_step();
      }
    }
    for (size_t e = 0; e < all.size(); e++) {
      totals[all[e].name].push_back(of_step[e]);
      ratios[all[e].name].push_back(of_step[e] / of_step[0]);
    }
    state.SetIterationTime(of_step[0] * 1e-3);
  }
  for (const Entry& entry : all) {
    state.counters[entry.name + "_ms"] = median(totals[entry.name]);
    if (entry.name != "kl_shampoo") state.counters[entry.name + "/kl"] = median(ratios[entry.name]);
  }
}

// Plain products (M, K) by (K, N), fp32 sums, by the library that Kiln has for the dtype, over all its threads: oneDNN for
// bf16, with the weights laid out as it likes them best, and OpenBLAS for fp32.
class Bf16Product {
 public:
  Bf16Product(int64_t M, int64_t N, int64_t K) : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    using dnnl::memory;
    const memory::desc a({M, K}, memory::data_type::bf16, memory::format_tag::ab);
    const memory::desc any({K, N}, memory::data_type::bf16, memory::format_tag::any);
    const memory::desc c({M, N}, memory::data_type::f32, memory::format_tag::ab);
    const dnnl::matmul::primitive_desc description({a, any, c}, engine_);
    product_ = dnnl::matmul(description);
    a_ = memory(a, engine_), b_ = memory(description.weights_desc(), engine_), c_ = memory(c, engine_);
    for (const memory& m : {a_, b_}) std::memset(m.get_data_handle(), 0x3c, m.get_desc().get_size());
  }
  void operator()() {
    product_.execute(stream_, {{DNNL_ARG_SRC, a_}, {DNNL_ARG_WEIGHTS, b_}, {DNNL_ARG_DST, c_}});
    stream_.wait();
  }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::matmul product_;
  dnnl::memory a_, b_, c_;
};

class F32Product {
 public:
  F32Product(int64_t M, int64_t N, int64_t K)
      : M_(static_cast<int>(M)),
        N_(static_cast<int>(N)),
        K_(static_cast<int>(K)),
        a_(normals(M * K, 1, 1)),
        b_(normals(K * N, 2, 1)),
        c_(static_cast<size_t>(M * N)) {}
  void operator()() {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, M_, N_, K_, 1.0f, a_.data(), K_, b_.data(), N_,
                0.0f, c_.data(), N_);
  }

 private:
  int M_, N_, K_;
  std::vector<float> a_, b_, c_;
};

std::function<void()> library_product(int64_t M, int64_t N, int64_t K, bool bf16) {
  if (bf16) return [product = std::make_shared<Bf16Product>(M, N, K)] { (*product)(); };
  return [product = std::make_shared<F32Product>(M, N, K)] { (*product)(); };
}

// Newton-Schulz of one shape: products executed (halves of symmetric ones counted as halves) a second, against the same
// library's plain products of the shapes in question.
void newton_schulz(benchmark::State& state, int64_t m, int64_t n, bool bf16, int threads) {
  ThreadPool pool(threads);
  Context context;
  context.device = cpu_device(threads);
  context.pool = &pool;
  if (bf16 && !kernels::has_bf16_products(context.device))
    return state.SkipWithError("no fast bf16 products here");
  const int64_t count = m == n ? 8 : 2;
  std::vector<std::vector<float>> xs, outs;
  std::vector<float*> x, out;
  for (int64_t k = 0; k < count; k++) {
    xs.push_back(normals(m * n, 7 + static_cast<uint64_t>(k), 1e-3)), outs.emplace_back(xs.back());
  }
  for (auto& v : xs) x.push_back(v.data());
  for (auto& v : outs) out.push_back(v.data());
  const auto& set = optim::newton_schulz_set("jordan");
  const auto orthogonalise = [&] {
    optim::newton_schulz(context, out.data(), x.data(), count, m, n, set, bf16 ? DType::bf16 : DType::f32);
  };
  DryRun record;
  const Memory workspace = make_workspace(context, orthogonalise, record);

  const auto gram = library_product(m, m, n, bf16), square = library_product(m, m, m, bf16),
             apply = library_product(m, n, m, bf16);
  const auto library = [&] {            // the products of five steps: X X^T, A A, B X
    openblas_set_num_threads(threads);  // kernels are single-threaded calls of it
    for (int64_t k = 0; k < 5 * count; k++) gram(), square(), apply();
    openblas_set_num_threads(1);
  };
  const double library_flops =
      5.0 * static_cast<double>(count) * 2 * static_cast<double>(m * m) * static_cast<double>(2 * n + m);
  orthogonalise(), library();
  std::vector<double> ours, theirs, ratio;
  for (auto _ : state) {
    for (size_t k = 0; k < xs.size(); k++) xs[k] = outs[k];  // x was overwritten
    const double own = record.flops / seconds_of(orthogonalise), plain = library_flops / seconds_of(library);
    ours.push_back(own * 1e-9), theirs.push_back(plain * 1e-9), ratio.push_back(own / plain);
    state.SetIterationTime(record.flops / own);
  }
  state.counters["GFLOP/s"] = median(ours);
  state.counters["library_GFLOP/s"] = median(theirs);
  state.counters["ratio"] = median(ratio);
  state.counters["executed/whole"] = record.flops / library_flops;
}

}  // namespace
}  // namespace kiln

int main(int argc, char** argv) {
  const auto threads = kiln::initialise_benchmarks(argc, argv);
  if (!threads) return 2;
  for (const bool bf16 : {true, false}) {
    for (const auto& [m, n] : {std::pair<int64_t, int64_t>{768, 768}, {768, 3072}}) {
      benchmark::RegisterBenchmark(fmt::format("newton_schulz/{}x{}/{}", m, n, bf16 ? "bf16" : "f32").c_str(),
                                   kiln::newton_schulz, m, n, bf16, *threads)
          ->UseManualTime()
          ->Unit(benchmark::kMillisecond)
          ->MinTime(1);
    }
  }
  benchmark::RegisterBenchmark("steps/gpt2-124m", kiln::steps, *threads)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond)
      ->Iterations(3);
  benchmark::RunSpecifiedBenchmarks();
}
