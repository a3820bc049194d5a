#include "src/train/spectrum.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "optim/kl_shampoo.h"
#include "optim/muon.h"
#include "src/core/file.h"
#include "src/train/checkpoint.h"
#include "src/train/plot.h"
#include "tests/config/valid.h"
#include "tests/core/temporary_folder.h"
#include "tests/optim/support.h"

namespace kiln::train {
namespace {

using testing::error_message;
using testing::TemporaryFolder;

TEST(DescribeSpectrum, SpikesAndAFlatTail) {
  const FactorSpectrum f = describe_spectrum({400, 100, 2, 2, 2, 2}, 10, 2);
  EXPECT_EQ(f.n, 6);
  EXPECT_EQ(f.rank, 2);
  EXPECT_EQ(f.gap, 0);
  EXPECT_EQ(f.price, 0);
  EXPECT_DOUBLE_EQ(f.spike, 200);
  EXPECT_EQ(f.flat_from, 2);
  EXPECT_EQ(shape_of(f), "spikes+flat");
  EXPECT_NEAR(f.whole_gap, std::log(508.0 / 6) - (std::log(4e4) + 4 * std::log(2.0)) / 6, 1e-12);
}

TEST(DescribeSpectrum, WhatIsNotFlatHasItsPrice) {
  const FactorSpectrum f = describe_spectrum({400, 100, 16, 1}, 10, 2);
  EXPECT_NEAR(f.gap, std::log(8.5 / 4), 1e-12);
  EXPECT_NEAR(f.price, 10 * 2 / 2.0 * std::log(8.5 / 4), 1e-11);
  EXPECT_EQ(f.flat_from, 3);
  EXPECT_EQ(shape_of(f), "not flat");
  EXPECT_EQ(shape_of(describe_spectrum({1.1f, 1, 1, 1}, 10, 2)), "flat");
  EXPECT_EQ(shape_of(describe_spectrum({9, 1}, 10, 128)), "no tail");
  EXPECT_EQ(describe_spectrum({9, 1}, 10, 128).rank, 2);
  EXPECT_EQ(shape_of(describe_spectrum({0, 0, 0}, 10, 1)), "empty");
}

TEST(Plot, ALogarithmicScaleLeavesOutWhatItCannotShow) {
  const std::string picture =
      plot({{'A', {{0, 1000}, {5, 10}, {10, 0.1}, {7, 0}, {8, -3}}}}, 3, 11, Scale::logarithmic);
  EXPECT_EQ(picture,
            " 1.00e+03 |A\n"
            " 1.00e+01 |     A\n"
            " 1.00e-01 |          A\n"
            "          +-----------\n"
            "           0        10\n");
}

// Q diag(values) Q with a Householder reflection Q.
void fill(float* s, const std::vector<double>& values, uint64_t stream) {
  const size_t n = values.size();
  const std::vector<double> v = tests::normals(static_cast<int64_t>(n), stream);
  double squares = 0;
  for (const double x : v) squares += x * x;
  const auto q = [&](size_t i, size_t j) { return (i == j ? 1 : 0) - 2 * v[i] * v[j] / squares; };
  for (size_t i = 0; i < n; i++) {
    for (size_t j = 0; j <= i; j++) {
      double sum = 0;
      for (size_t k = 0; k < n; k++) sum += q(i, k) * values[k] * q(j, k);
      s[i * n + j] = s[j * n + i] = static_cast<float>(sum);
    }
  }
}

class SpectraOf : public ::testing::Test {
 protected:
  SpectraOf()
      : table_(tests::small_table()),
        optimizers_(optim::route(table_, std::make_unique<optim::KlShampoo>(optim::KlShampooOptions{}), {})) {
    table_.plan(plan_, DType::f32, true);
    optimizers_.plan(plan_);
    arena_.emplace(plan_, ArenaMode::discrete, cpu_device(1));
    table_.bind(*arena_);
    optimizers_.bind(*arena_);
    std::ofstream(folder_ / "metrics.jsonl") << "";
  }

  // S_a of every matrix has `values` and S_b those times the step.
  std::filesystem::path save(int64_t step, const std::string& optimizer = "kl-shampoo") {
    for (const optim::StateTensor& s : optimizers_.state_tensors()) {
      std::vector<double> values = values_;
      if (s.name.ends_with(".s_b")) {
        for (double& x : values) x *= static_cast<double>(step);
      }
      if (s.name.ends_with(".s_a") || s.name.ends_with(".s_b"))
        fill(s.data, values, static_cast<uint64_t>(step));
    }
    std::string config = config::kValid;
    const std::string lr = "\"lr\": 0.001";
    config.replace(config.find(lr), lr.size(), fmt::format("\"name\": \"{}\"", optimizer));
    return save_checkpoint(folder_.path(), {.step = step, .data = "5 tokens", .config_json = config}, table_,
                           optimizers_);
  }

  static void expect_values(const FactorSpectrum& f, const std::vector<double>& expected) {
    ASSERT_EQ(f.values.size(), expected.size());
    // Both the matrix and its decomposition are rounded: some n units of the largest eigenvalue.
    const double tolerance = 8 * 6 * 0x1p-24 * expected[0];
    for (size_t i = 0; i < expected.size(); i++) EXPECT_NEAR(f.values[i], expected[i], tolerance);
  }

  TemporaryFolder folder_;
  ParameterTable table_;
  Plan plan_;
  optim::OptimizerSet optimizers_;
  std::optional<Arena> arena_;
  const std::vector<double> values_{500, 60, 3, 2, 2, 1};
};

TEST_F(SpectraOf, KnownSpectraComeBack) {
  const Spectra spectra = spectra_of(save(7), {.rank = 2, .matrices = {}, .overrides = {}, .progress = {}});
  EXPECT_EQ(spectra.rank, 2);
  ASSERT_EQ(spectra.checkpoints.size(), 1u);
  EXPECT_EQ(spectra.checkpoints[0].step, 7);
  const auto& matrices = spectra.checkpoints[0].matrices;
  ASSERT_EQ(matrices.size(), 8u) << "q, k, v and proj of two layers";
  std::vector<double> scaled = values_;
  for (double& x : scaled) x *= 7;
  for (const MatrixSpectrum& m : matrices) {
    EXPECT_EQ(m.rows, 6);
    EXPECT_EQ(m.cols, 6);
    expect_values(m.left, values_);
    expect_values(m.right, scaled);
    // Twice the relative error of the least eigenvalue, 8 * 6 * 2^-24 * 500.
    EXPECT_NEAR(m.left.gap, std::log(2.0) - std::log(12.0) / 4, 3e-3);
    EXPECT_NEAR(m.right.gap, m.left.gap, 3e-3);
  }
}

TEST_F(SpectraOf, ARunHasAllItsCheckpointsInTheOrderOfTheirSteps) {
  const auto third = save(30);
  save(20);
  save(10);
  std::vector<int64_t> progress;
  const SpectrumOptions options{.rank = {},
                                .matrices = {"h.1.qkv"},
                                .overrides = {"metrics.tail_rank=3"},
                                .progress = [&](int64_t done, int64_t total, const std::string&) {
                                  EXPECT_EQ(total, 6);
                                  progress.push_back(done);
                                }};
  Spectra spectra = spectra_of(folder_.path(), options);
  EXPECT_EQ(spectra.rank, 3);
  ASSERT_EQ(spectra.checkpoints.size(), 3u);
  for (size_t i = 0; i < 3; i++) {
    const CheckpointSpectrum& c = spectra.checkpoints[i];
    EXPECT_EQ(c.step, 10 * static_cast<int64_t>(i + 1));
    ASSERT_EQ(c.matrices.size(), 3u);
    EXPECT_EQ(c.matrices[1].name, "h.1.qkv.weight.k");
    EXPECT_NEAR(c.matrices[1].right.values[0], 5000.0 * static_cast<double>(i + 1), 1);
  }
  EXPECT_EQ(progress.back(), 6);
  const std::string text = text_of(spectra, 1), json = json_of(spectra);
  for (const char* words :
       {"step 10, r = 3", "step 30, r = 3", "h.1.qkv.weight.k", "h.1.qkv.weight.q S_b, 6 eigenvalues",
        "a: step 10, b: step 20, c: step 30", "2 matrices are not drawn"}) {
    EXPECT_NE(text.find(words), std::string::npos) << words << "\n" << text;
  }
  EXPECT_NE(json.find("\"eigenvalues\":["), std::string::npos);

  // One that is damaged is passed over, and the last one of them is an error.
  std::ofstream(third / "optimizer.safetensors", std::ios::in | std::ios::out).seekp(3000).put('!');
  EXPECT_EQ(spectra_of(folder_.path(), options).checkpoints.size(), 2u);
  EXPECT_NE(error_message(ExitCode::data, [&] { spectra_of(third, options); }).find("the file is damaged"),
            std::string::npos);
}

TEST_F(SpectraOf, OtherOptimizersAreRefused) {
  for (const auto& [name, words] : {std::pair{"muon", "keeps a momentum"}, std::pair{"adamw", "no factors"},
                                    std::pair{"pro-kl-shampoo", "on a subspace only"}}) {
    save(3, name);
    const std::string message = error_message(ExitCode::usage, [&] { spectra_of(folder_.path(), {}); });
    EXPECT_NE(message.find(words), std::string::npos) << message;
  }
  const auto path = save(3);
  EXPECT_NE(error_message(
                ExitCode::usage,
                [&] { spectra_of(path, {.rank = {}, .matrices = {"h.7"}, .overrides = {}, .progress = {}}); })
                .find("no matrix has such a name"),
            std::string::npos);
}

TEST_F(SpectraOf, FilesThatAreNotKlShampoosAreRefused) {
  // Whole, and with a config that says kl-shampoo, but with Muon's state.
  optim::OptimizerSet muon(optim::route(table_, std::make_unique<optim::Muon>(optim::MuonOptions{}), {}));
  Plan plan;
  muon.plan(plan);
  const Arena arena(plan, ArenaMode::discrete, cpu_device(1));
  muon.bind(arena);
  std::string config = config::kValid;
  config.replace(config.find("\"lr\": 0.001"), 11, "\"name\": \"kl-shampoo\"");
  const auto path =
      save_checkpoint(folder_.path(), {.step = 1, .data = "", .config_json = config}, table_, muon);
  EXPECT_NE(error_message(ExitCode::data, [&] { spectra_of(path, {}); }).find("no factors in it"),
            std::string::npos);
}

TEST_F(SpectraOf, WhatIsNotFiniteIsCalledBroken) {
  for (const optim::StateTensor& s : optimizers_.state_tensors()) {
    if (s.name == "h.0.proj.weight.s_a") s.data[5] = NAN;
  }
  std::string config = config::kValid;
  config.replace(config.find("\"lr\": 0.001"), 11, "\"name\": \"kl-shampoo\"");
  const auto path =
      save_checkpoint(folder_.path(), {.step = 1, .data = "", .config_json = config}, table_, optimizers_);
  const Spectra spectra =
      spectra_of(path, {.rank = 2, .matrices = {"h.0.proj"}, .overrides = {}, .progress = {}});
  EXPECT_EQ(shape_of(spectra.checkpoints[0].matrices[0].left), "broken");
  EXPECT_EQ(shape_of(spectra.checkpoints[0].matrices[0].right), "empty");
  EXPECT_NE(text_of(spectra, 1).find("broken"), std::string::npos);
}

}  // namespace
}  // namespace kiln::train
