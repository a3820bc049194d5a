// Every linear kernel on every path (oneDNN, OpenBLAS) against a naive fp64
// reference.
//
// Tolerance: a sum of n products computed in fp32, in whatever order and with or without fused multiply-add,
// differs from the exact one by at most gamma(n) = n u / (1 - n u) times the sum of the magnitudes of its
// terms (Higham, "Accuracy and stability of numerical algorithms", section 3.1). A bias or an old gradient is
// one more term.
#include "kernels/linear.h"

#include <algorithm>
#include <array>

#include "kernels/table.h"
#include "tests/kernels/large_allocations.h"
#include "tests/kernels/reference_linear.h"
#include "tests/kernels/support.h"

namespace kiln::tests {
namespace {

using kernels::LinearBackwardInput;
using kernels::LinearBackwardWeight;
using kernels::LinearForward;
using kernels::PackedWeight;

double gamma(int64_t terms) {
  const double nu = static_cast<double>(terms) * kUnit;
  return nu / (1 - nu);
}

// rows, N, K: ones, primes, sizes around the panels of 64 and 16, around row tiles of 64 to 256, column
// strips of 512 (wide products), chunks of 512 and rounds of 2048 rows.
constexpr std::array<std::array<int64_t, 3>, 15> kShapes{{{1, 1, 1},
                                                          {1, 3, 17},
                                                          {3, 1, 5},
                                                          {2, 17, 1},
                                                          {1, 257, 3},
                                                          {1, 2111, 19},
                                                          {17, 257, 31},
                                                          {64, 64, 16},
                                                          {129, 130, 67},
                                                          {300, 61, 2087},
                                                          {130, 2113, 40},
                                                          {1030, 530, 7},
                                                          {2050, 1030, 2},
                                                          {515, 1029, 19},
                                                          {2579, 65, 13}}};

// The kernels do not depend on the instruction set beyond the choice of a library: OpenBLAS below AVX-512.
std::vector<Isa> paths() {
  if (best_isa() == Isa::avx512) return {Isa::baseline, Isa::avx512};
  return {best_isa()};
}

std::string name(const std::array<int64_t, 3>& shape, Isa isa) {
  return fmt::format("{} x {} x {} on {}", shape[0], shape[1], shape[2], name_of(isa));
}

// A random layer with everything its kernels touch. Rows of out and d_out lie ld apart; what is between them
// must never change.
struct Layer {
  int64_t rows, N, K, ld;
  Guarded<float> in, weight, bias, d_out, out, d_in, d_weight, d_bias;
  uint64_t version = 1;

  Layer(const std::array<int64_t, 3>& shape, int64_t extra)
      : rows(shape[0]),
        N(shape[1]),
        K(shape[2]),
        ld(N + extra),
        in(normal(rows * K, "in")),
        weight(normal(N * K, "weight")),
        bias(normal(N, "bias")),
        d_out(normal(rows * ld, "d_out")),
        out(normal(rows * ld, "out")),
        d_in(normal(rows * K, "d_in")),
        d_weight(normal(N * K, "d_weight")),
        d_bias(normal(N, "d_bias")) {}

  reference::Linear exact() const {
    return {rows, N, K, to_double(in), to_double(weight), to_double(bias), columns(d_out)};
  }

  // The N columns that count.
  std::vector<double> columns(const Guarded<float>& wide) const {
    std::vector<double> narrow;
    for (int64_t r = 0; r < rows; r++) narrow.insert(narrow.end(), &wide[r * ld], &wide[r * ld] + N);
    return narrow;
  }
  Guarded<float> narrow_out() const {
    Guarded<float> narrow(rows * N);
    for (int64_t r = 0; r < rows; r++) std::copy_n(&out[r * ld], N, &narrow[r * N]);
    return narrow;
  }
  bool same_gaps(const Layer& other) const {
    for (int64_t r = 0; r < rows; r++) {
      for (int64_t c = N; c < ld; c++) {
        if (out[r * ld + c] != other.out[r * ld + c]) return false;
      }
    }
    return true;
  }

  LinearForward forward(PackedWeight& w, bool with_bias) {
    return {out.data(), in.data(), &w, with_bias ? bias.data() : nullptr, rows, N, K, ld, DType::f32};
  }
  LinearBackwardInput backward_input(PackedWeight& w, bool accumulate) {
    return {d_in.data(), d_out.data(), &w, rows, N, K, ld, accumulate, DType::f32};
  }
  LinearBackwardWeight backward_weight(bool with_bias) {
    return {d_weight.data(), with_bias ? d_bias.data() : nullptr, d_out.data(), in.data(), rows, N, K, ld,
            DType::f32};
  }
};

// A weight with exactly the storage that packed_weight_bytes announces, guarded.
struct Packed {
  Guarded<unsigned char> storage;
  PackedWeight weight;

  Packed(const Layer& layer, const Device& device, bool backward = true)
      : storage(static_cast<int64_t>(
            kernels::packed_weight_bytes(layer.N, layer.K, DType::f32, device, backward))) {
    weight = {.weight = layer.weight.data(),
              .version = &layer.version,
              .storage = storage.size() ? storage.data() : nullptr,
              .N = layer.N,
              .K = layer.K};
  }
};

// value + what was there before, and magnitudes accordingly.
void add_initial(reference::Result& result, const Guarded<float>& initial) {
  for (int64_t i = 0; i < initial.size(); i++) result.add(i, initial[i]);
}

void expect_within(const std::string& what, const Guarded<float>& actual, const reference::Result& expected,
                   int64_t terms) {
  expect_close(what, actual, expected.value,
               [&](int64_t i) { return gamma(terms) * expected.magnitude[static_cast<size_t>(i)]; });
}

TEST(LinearReference, GradientsAreThoseOfForward) {
  reference::Linear l{3,
                      4,
                      5,
                      to_double(normal(15, "in")),
                      to_double(normal(20, "weight")),
                      to_double(normal(4, "bias")),
                      to_double(normal(12, "d_out"))};
  const auto loss = [&] {
    const reference::Result out = reference::forward(l, true);
    double sum = 0;
    for (size_t i = 0; i < out.value.size(); i++) sum += out.value[i] * l.d_out[i];
    return sum;
  };
  const auto check = [&](std::vector<double>& x, const reference::Result& gradient) {
    ASSERT_EQ(x.size(), gradient.value.size());
    for (size_t i = 0; i < x.size(); i++)
      EXPECT_NEAR(central_difference(loss, x[i]), gradient.value[i], 1e-8);
  };
  check(l.in, reference::backward_input(l));
  check(l.weight, reference::backward_weight(l));
  check(l.bias, reference::backward_bias(l));
}

TEST(Linear, Forward) {
  for (const auto& shape : kShapes) {
    for (int64_t extra : {0, 5}) {
      const Layer start(shape, extra);
      for (bool with_bias : {false, true}) {
        const reference::Result expected = reference::forward(start.exact(), with_bias);
        for (Isa isa : paths()) {
          Layer layer = start;
          Runner runner(isa, 2);
          Packed packed(layer, runner.context().device, false);
          runner.run(kernels::linear_forward, layer.forward(packed.weight, with_bias));
          expect_within(name(shape, isa), layer.narrow_out(), expected, layer.K + 1);
          EXPECT_TRUE(layer.same_gaps(start)) << name(shape, isa);
        }
      }
    }
  }
}

TEST(Linear, BackwardInput) {
  for (const auto& shape : kShapes) {
    for (int64_t extra : {0, 5}) {
      const Layer start(shape, extra);
      const reference::Result written = reference::backward_input(start.exact());
      for (bool accumulate : {false, true}) {
        reference::Result expected = written;
        if (accumulate) add_initial(expected, start.d_in);
        for (Isa isa : paths()) {
          Layer layer = start;
          Runner runner(isa, 2);
          Packed packed(layer, runner.context().device);
          if (!accumulate) layer.d_in.fill(std::numeric_limits<float>::quiet_NaN());
          runner.run(kernels::linear_backward_input, layer.backward_input(packed.weight, accumulate));
          expect_within(name(shape, isa), layer.d_in, expected, layer.N + 1);
        }
      }
    }
  }
}

TEST(Linear, BackwardWeightAccumulates) {
  for (const auto& shape : kShapes) {
    for (int64_t extra : {0, 5}) {
      const Layer start(shape, extra);
      reference::Result d_weight = reference::backward_weight(start.exact());
      reference::Result d_bias = reference::backward_bias(start.exact());
      add_initial(d_weight, start.d_weight);
      add_initial(d_bias, start.d_bias);
      for (Isa isa : paths()) {
        Layer layer = start;
        Runner runner(isa, 2);
        runner.run(kernels::linear_backward_weight, layer.backward_weight(true));
        expect_within(name(shape, isa) + " d_weight", layer.d_weight, d_weight, layer.rows + 1);
        expect_within(name(shape, isa) + " d_bias", layer.d_bias, d_bias, layer.rows + 1);
      }
    }
  }
}

TEST(Linear, BackwardWeightWithoutBias) {
  Layer start({37, 19, 23}, 0);
  reference::Result expected = reference::backward_weight(start.exact());
  add_initial(expected, start.d_weight);
  for (Isa isa : paths()) {
    Layer layer({37, 19, 23}, 0);
    Runner(isa, 2).run(kernels::linear_backward_weight, layer.backward_weight(false));
    expect_within("d_weight", layer.d_weight, expected, layer.rows + 1);
  }
}

TEST(Linear, NoRowsChangeNothing) {
  for (Isa isa : paths()) {
    Layer layer({0, 19, 23}, 0);
    Runner runner(isa, 2);
    Packed packed(layer, runner.context().device);
    runner.run(kernels::linear_forward, layer.forward(packed.weight, true));
    runner.run(kernels::linear_backward_input, layer.backward_input(packed.weight, false));
    runner.run(kernels::linear_backward_weight, layer.backward_weight(true));
    EXPECT_TRUE(layer.d_weight.same_bits(normal(19 * 23, "d_weight")));
    EXPECT_TRUE(layer.d_bias.same_bits(normal(19, "d_bias")));
  }
}

TEST(Linear, PackedFormsFollowTheVersion) {
  for (Isa isa : paths()) {
    Layer layer({33, 65, 18}, 0);
    Runner runner(isa, 2);
    Packed packed(layer, runner.context().device);
    const auto run = [&] {
      runner.run(kernels::linear_forward, layer.forward(packed.weight, true));
      runner.run(kernels::linear_backward_input, layer.backward_input(packed.weight, false));
    };
    run();
    const Guarded<float> old_out = layer.out, old_d_in = layer.d_in;
    for (int64_t i = 0; i < layer.weight.size(); i++) layer.weight[i] = -1.5f * layer.weight[i] + 0.25f;
    if (packed.weight.storage) {
      run();
      EXPECT_TRUE(layer.out.same_bits(old_out) && layer.d_in.same_bits(old_d_in))
          << "same version, same forms";
    }
    layer.version++;
    run();
    expect_within("out", layer.out, reference::forward(layer.exact(), true), layer.K + 1);
    expect_within("d_in", layer.d_in, reference::backward_input(layer.exact()), layer.N);
  }
}

TEST(Linear, WorksWithoutStorage) {
  for (Isa isa : paths()) {
    Layer layer({33, 65, 18}, 3);
    Runner runner(isa, 2);
    PackedWeight weight{.weight = layer.weight.data(), .version = &layer.version, .N = layer.N, .K = layer.K};
    runner.run(kernels::linear_forward, layer.forward(weight, true));
    runner.run(kernels::linear_backward_input, layer.backward_input(weight, false));
    expect_within("out", layer.narrow_out(), reference::forward(layer.exact(), true), layer.K + 1);
    expect_within("d_in", layer.d_in, reference::backward_input(layer.exact()), layer.N);
  }
}

TEST(Linear, ResultsDoNotDependOnThreads) {
  const std::array<std::array<int64_t, 3>, 3> shapes{{{1100, 391, 131}, {2600, 70, 129}, {1300, 2190, 33}}};
  for (const auto& shape : shapes) {
    const Layer start(shape, 0);
    for (Isa isa : paths()) {
      std::unique_ptr<Layer> one;
      for (int threads : {1, 2, 3}) {
        auto layer = std::make_unique<Layer>(start);
        Runner runner(isa, threads);
        Packed packed(*layer, runner.context().device);
        runner.run(kernels::linear_forward, layer->forward(packed.weight, true));
        runner.run(kernels::linear_backward_input, layer->backward_input(packed.weight, true));
        runner.run(kernels::linear_backward_weight, layer->backward_weight(true));
        if (!one) one = std::move(layer);
        if (threads == 1) continue;
        EXPECT_TRUE(layer->out.same_bits(one->out)) << name(shape, isa) << ", " << threads << " threads";
        EXPECT_TRUE(layer->d_in.same_bits(one->d_in)) << name(shape, isa) << ", " << threads << " threads";
        EXPECT_TRUE(layer->d_weight.same_bits(one->d_weight))
            << name(shape, isa) << ", " << threads << " threads";
        EXPECT_TRUE(layer->d_bias.same_bits(one->d_bias))
            << name(shape, isa) << ", " << threads << " threads";
      }
    }
  }
}

// Runner gives exactly what is announced; here: with less, kernels refuse, so nothing is announced in vain.
TEST(Linear, AnnouncedWorkspaceIsNeeded) {
  const auto starve = [](Runner& runner, auto kernel, const auto& p) {
    DryRun record;
    runner.context().dry_run = &record;
    kernel(runner.context(), p);
    runner.context().dry_run = nullptr;
    if (record.workspace_bytes == 0) return;
    Guarded<unsigned char> workspace(static_cast<int64_t>(record.workspace_bytes));
    runner.context().workspace = Workspace(workspace.data(), record.workspace_bytes - 1);
    EXPECT_THROW(kernel(runner.context(), p), Error);
    runner.context().workspace = Workspace();
  };
  for (const auto& shape : kShapes) {
    Layer layer(shape, 0);
    for (Isa isa : paths()) {
      Runner runner(isa, 2);
      Packed packed(layer, runner.context().device);
      starve(runner, kernels::linear_forward, layer.forward(packed.weight, true));
      starve(runner, kernels::linear_backward_input, layer.backward_input(packed.weight, true));
      starve(runner, kernels::linear_backward_weight, layer.backward_weight(true));
    }
  }
}

// A call of each kernel after the workspace was asked for, as in the first step of a run, allocates nothing
// large on its own; nor does any later one.
TEST(Linear, AllocatesNothingLarge) {
  if (!can_watch_allocations()) GTEST_SKIP() << "sanitizers watch the allocator";
  constexpr size_t kLimit = 64 << 10;
  const std::array<std::array<int64_t, 3>, 4> shapes{
      {{700, 384, 257}, {260, 2190, 128}, {1, 640, 640}, {257, 2304, 768}}};
  for (const auto& shape : shapes) {
    for (int64_t extra : {0, 64}) {
      Layer layer(shape, extra);
      for (Isa isa : paths()) {
        Runner runner(isa, 3);
        Context& context = runner.context();
        Packed packed(layer, context.device);
        const auto forward = layer.forward(packed.weight, true);
        const auto backward_input = layer.backward_input(packed.weight, true);
        const auto backward_weight = layer.backward_weight(true);
        const auto run = [&] {
          kernels::linear_forward(context, forward);
          kernels::linear_backward_input(context, backward_input);
          kernels::linear_backward_weight(context, backward_weight);
        };
        DryRun record;
        context.dry_run = &record;
        run();
        context.dry_run = nullptr;
        Guarded<unsigned char> workspace(static_cast<int64_t>(record.workspace_bytes));
        context.workspace = Workspace(workspace.data(), record.workspace_bytes);
        // What the libraries of a context map when they are made is theirs; no more may follow.
        Layer small({1, 1, 1}, 0);
        PackedWeight unpacked{.weight = small.weight.data(), .version = &small.version, .N = 1, .K = 1};
        kernels::linear_forward(context, small.forward(unpacked, false));
        for (int times = 0; times < 3; times++) {
          layer.version++;
          const AllocationWatch watch;
          run();
          EXPECT_LE(watch.largest(), kLimit) << name(shape, isa) << ", call " << times;
        }
        context.workspace = Workspace();
      }
    }
  }
}

TEST(Linear, WatchSeesAllocations) {
  if (!can_watch_allocations()) GTEST_SKIP() << "sanitizers watch the allocator";
  const AllocationWatch watch;
  const std::vector<char> large(1 << 20);
  EXPECT_GE(watch.largest(), large.size());
}

TEST(Linear, RefusesShapesThatDoNotFitTheWeight) {
  Layer layer({4, 5, 6}, 0);
  Runner runner(best_isa(), 1);
  Packed packed(layer, runner.context().device);
  packed.weight.N = 4;
  EXPECT_THROW(runner.run(kernels::linear_forward, layer.forward(packed.weight, true)), Error);
  EXPECT_THROW(runner.run(kernels::linear_backward_input, layer.backward_input(packed.weight, true)), Error);
}

TEST(Linear, ForwardOnlyWeightsTakeLessStorage) {
  const Device device = cpu_device(1);
  const size_t forward = kernels::packed_weight_bytes(100, 50, DType::f32, device, false);
  const size_t both = kernels::packed_weight_bytes(100, 50, DType::f32, device, true);
  EXPECT_TRUE(both == 0 || forward < both);
  EXPECT_EQ(kernels::packed_weight_bytes(100, 50, DType::bf16, device, true), 0u);
}

TEST(Linear, PeakIsMeasured) {
  Runner runner(best_isa(), 2);
  const double peak = kernels::measure_gemm_peak(runner.context(), 0.05);
  EXPECT_GT(peak, 0.1);
  EXPECT_LT(peak, 1e6);
}

TEST(Linear, LibrariesAreNamed) {
  const std::string versions = kernels::library_versions();
  EXPECT_NE(versions.find("oneDNN "), std::string::npos) << versions;
  EXPECT_NE(versions.find("OpenBLAS "), std::string::npos) << versions;
}

}  // namespace
}  // namespace kiln::tests
