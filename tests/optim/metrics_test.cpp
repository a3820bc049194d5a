// What the optimizers report, against numbers from weights and state before and after the step.
#include <fmt/format.h>

#include <chrono>

#include "optim/adamw.h"
#include "optim/kl_shampoo.h"
#include "optim/muon.h"
#include "optim/pro_kl_shampoo.h"
#include "tests/optim/batch.h"
#include "tests/optim/recorder.h"

namespace kiln::tests {
namespace {

using namespace optim;

constexpr double kLr = 0.01, kDecay = 0.1;

// A batch of two matrices after `steps` steps with a schedule and clipping, of which the last one reported.
struct Reported {
  Reported(Optimizer& optimizer, int64_t rows, int64_t cols, int steps = 7)
      : batch(optimizer, rows, cols, 2, cols + 3) {
    for (size_t k = 0; k < 2; k++) batch.set_param(k, weights(rows, cols, k));
    for (int t = 1; t <= steps; t++) {
      for (size_t k = 0; k < 2; k++) {
        before[k] = batch.param(k);
        batch.set_grad(k, gradient(rows, cols, static_cast<uint64_t>(t), k));
      }
      const auto start = std::chrono::steady_clock::now();
      batch.step(t, kMultiplier, 0.5, t == steps ? &recorder : nullptr);
      ms += std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    }
  }
  double value(size_t matrix, std::string_view what) const {
    return recorder.values.at(fmt::format("matrix{}.{}", matrix, what));
  }

  static constexpr double kMultiplier = 0.75;
  Batch batch;
  Recorder recorder;
  Matrix before[2];
  double ms = 0;  // of all steps
};

// Weights of size .02 move by more than 1e-4: their rounding to 2^-24 of themselves is 1e-5 of that.
void expect_sizes(const Reported& run, bool decay_first) {
  const double rate = kLr * Reported::kMultiplier, keeps = 1 - rate * kDecay;
  for (size_t k = 0; k < 2; k++) {
    const Matrix after = run.batch.param(k);
    const Matrix moved = decay_first ? keeps * run.before[k] - after : run.before[k] - 1 / keeps * after;
    ASSERT_GT(reference::rms(moved), 1e-4);
    EXPECT_NEAR(run.value(k, "update_rms") / (reference::rms(moved) / rate), 1, 2e-5);
    EXPECT_NEAR(run.value(k, "weight_rms") / reference::rms(after), 1, 1e-6);
  }
}

// Phases add up to no more than the steps took, and start anew with each report.
void expect_times(Reported& run, std::string_view optimizer) {
  const auto sum = [&] {
    double total = 0;
    for (const char* phase : {"statistics", "roots", "complement", "update"}) {
      const double ms = run.recorder.values.at(
          fmt::format("{}.{}x{}.{}_ms", optimizer, run.batch.batch.rows, run.batch.batch.cols, phase));
      EXPECT_GE(ms, 0);
      EXPECT_TRUE(ms > 0 || std::string_view(phase) == "complement") << phase;
      total += ms;
    }
    return total;
  };
  EXPECT_LE(sum(), run.ms);
  const auto start = std::chrono::steady_clock::now();
  run.batch.step(9, 1, 1, &run.recorder);  // with a refresh
  const std::chrono::duration<double, std::milli> step = std::chrono::steady_clock::now() - start;
  EXPECT_LE(sum(), step.count());
}

void expect_no_events(const Reported& run, const std::string& optimizer) {
  for (const char* what : {"failed_factorisations", "retried_factorisations", "slow_roots"}) {
    EXPECT_EQ(run.recorder.values.at(optimizer + "." + what), 0) << what;
  }
}

// Eigenvalues as they stand in the state.
void expect_range(const Reported& run, std::string_view what, std::string_view state) {
  for (size_t k = 0; k < 2; k++) {
    const std::vector<double> l = run.batch.state(state, k).x;
    EXPECT_EQ(run.value(k, fmt::format("{}_min", what)), *std::min_element(l.begin(), l.end()));
    EXPECT_EQ(run.value(k, fmt::format("{}_max", what)), *std::max_element(l.begin(), l.end()));
    EXPECT_LT(run.value(k, fmt::format("{}_min", what)), run.value(k, fmt::format("{}_max", what)));
  }
}

TEST(Metrics, OfAdamW) {
  AdamW adamw({.lr = kLr, .b1 = 0.9, .b2 = 0.95, .eps = 1e-4, .wd = kDecay});
  for (const auto& [rows, cols] :
       {std::pair<int64_t, int64_t>{12, 20}, {150, 7}}) {  // more than one block of rows
    const Reported run(adamw, rows, cols);
    expect_sizes(run, true);
    EXPECT_EQ(run.recorder.values.size(), 4u);
  }
  EXPECT_TRUE(Reported(adamw, 1, 20).recorder.values.empty()) << "a vector is not worth a line";
}

TEST(Metrics, OfMuon) {
  for (const MuonScale scale : {MuonScale::match_rms, MuonScale::spectral}) {
    for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{12, 20}, {20, 12}}) {
      Muon muon({.lr = kLr, .wd = kDecay, .scale = scale, .set = &newton_schulz_set("jordan")});
      const Reported run(muon, rows, cols);
      expect_sizes(run, true);
      EXPECT_EQ(run.recorder.values.size(), 4u);
    }
  }
}

TEST(Metrics, OfKlShampoo) {
  for (const Root root : {Root::eigenbasis, Root::newton_schulz}) {
    KlShampoo kl({.lr = kLr, .wd = kDecay, .refresh = 3, .root = root});
    Reported run(kl, 12, 20);
    expect_sizes(run, false);
    if (root == Root::eigenbasis) {
      expect_range(run, "left_eigenvalue", "l_a");
      expect_range(run, "right_eigenvalue", "l_b");
    }
    expect_no_events(run, "kl-shampoo");
    // Two sizes of each matrix, four eigenvalues, three counts, four times.
    EXPECT_EQ(run.recorder.values.size(), (root == Root::eigenbasis ? 12u : 4u) + 7);
    expect_times(run, "kl-shampoo");
  }
}

TEST(Metrics, OfProKlShampoo) {
  for (const Root root : {Root::eigenbasis, Root::newton_schulz}) {
    for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{12, 20}, {20, 12}}) {
      for (const int64_t rank : {5, 1000, 0}) {
        SCOPED_TRACE(fmt::format("{} x {} rank {}", rows, cols, rank));
        ProKlShampoo pro({.lr = kLr,
                          .wd = kDecay,
                          .refresh = 3,
                          .root = root,
                          .rank = rank,
                          .set = &newton_schulz_set("polar_express")});
        Reported run(pro, rows, cols);
        expect_sizes(run, false);
        const double n = 20, r = std::min(static_cast<double>(rank), n);
        for (size_t k = 0; k < 2; k++) {
          const Matrix s = run.batch.state("s", k);
          const double mu = run.batch.state("mu", k).x[0], inside = reference::trace(s);
          EXPECT_EQ(run.value(k, "mu"), mu);
          EXPECT_NEAR(run.value(k, "subspace_trace_share"), inside / (inside + (n - r) * mu), 1e-12);
          if (rank == 0) continue;
          // In fp32, off by some n units of rounding of the largest.
          const std::vector<double> l = reference::eigen(s).values;  // descending
          EXPECT_NEAR(run.value(k, "subspace_eigenvalue_min"), l.back(), 20 * kUnit * l.front());
          EXPECT_NEAR(run.value(k, "subspace_eigenvalue_max"), l.front(), 20 * kUnit * l.front());
          EXPECT_LT(run.value(k, "subspace_eigenvalue_min"), run.value(k, "subspace_eigenvalue_max"));
        }
        if (root == Root::eigenbasis) expect_range(run, "left_eigenvalue", "l_a");
        expect_no_events(run, "pro-kl-shampoo");
        EXPECT_EQ(run.recorder.values.at("pro-kl-shampoo.skipped_complements"), rank > 20 ? 2 * 6 : 0);
        // Sizes, mu and share of each matrix, two eigenvalues of each factor; four counts, four times.
        const size_t of_matrix = 4 + (root == Root::eigenbasis ? 2 : 0) + (rank ? 2 : 0);
        EXPECT_EQ(run.recorder.values.size(), 2 * of_matrix + 8);
        expect_times(run, "pro-kl-shampoo");
      }
    }
  }
}

}  // namespace
}  // namespace kiln::tests
