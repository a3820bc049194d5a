#include "optim/spectrum.h"

#include <gtest/gtest.h>

#include "optim/kl_shampoo.h"
#include "tests/optim/batch.h"
#include "tests/optim/recorder.h"
#include "tests/optim/reference_linear_algebra.h"

namespace kiln::tests {
namespace {

using optim::tail_gap;

TEST(TailGap, IsZeroForEqualEigenvaluesAndTheirOwnElse) {
  const std::vector<float> flat{2, 2, 2, 2, 50, 900};
  EXPECT_EQ(tail_gap(flat.data(), 6, 2), 0);
  EXPECT_GT(tail_gap(flat.data(), 6, 1), 0.5);
  // Of 1 and 4: log(5/2) - log(2).
  const std::vector<float> two{1, 4, 100};
  EXPECT_NEAR(tail_gap(two.data(), 3, 1), std::log(1.25), 1e-15);
  EXPECT_EQ(tail_gap(two.data(), 3, 2), 0);
  EXPECT_EQ(tail_gap(two.data(), 3, 3), 0);
  EXPECT_EQ(tail_gap(two.data(), 3, 100), 0);
}

TEST(TailGap, SmallScatterIsHalfTheVarianceOfTheLogarithms) {
  std::vector<float> values;
  double squares = 0;
  for (int i = 0; i < 101; i++) {
    values.push_back(static_cast<float>(std::exp(0.001 * (i - 50))));
    squares += std::pow(0.001 * (i - 50), 2) / 101;
  }
  EXPECT_NEAR(tail_gap(values.data(), 101, 0), squares / 2, 0.01 * squares);
}

TEST(TailGap, TheLeastRankWhoseTailIsFlat) {
  const std::vector<float> values{1, 1, 1, 1.1f, 90, 900};
  EXPECT_EQ(optim::flat_rank(values.data(), 6, 0.01), 2);
  EXPECT_EQ(optim::flat_rank(values.data(), 6, 1e-6), 3);
  EXPECT_EQ(optim::flat_rank(values.data(), 6, 100), 0);
  const std::vector<float> broken{NAN, NAN};
  EXPECT_EQ(optim::flat_rank(broken.data(), 2, 100), 2);
}

TEST(TailGap, FloorsWhatIsZeroOrNegative) {
  const std::vector<float> values{-1e-3f, 0, 1, 1};
  const double mean = (2 - static_cast<double>(1e-3f)) / 4, floor = 1e-10 * mean;
  EXPECT_NEAR(tail_gap(values.data(), 4, 0), std::log((2 * floor + 2) / 4) - 2 * std::log(floor) / 4, 1e-12);
  const std::vector<float> nothing(4, 0.0f), broken{NAN, 1, 2};
  EXPECT_EQ(tail_gap(nothing.data(), 4, 1), 0);
  EXPECT_TRUE(std::isnan(tail_gap(broken.data(), 3, 0)));
}

// log(AM/GM) of what the reference's eigen-decomposition leaves past `rank`.
double reference_gap(const Matrix& factor, size_t rank) {
  std::vector<double> values = reference::eigen(factor).values;
  std::sort(values.begin(), values.end(), std::greater<>());
  EXPECT_LT(values.front(), 1e4 * values.back());
  double sum = 0, logarithms = 0;
  const auto n = static_cast<double>(values.size() - rank);
  for (size_t i = rank; i < values.size(); i++) {
    sum += values[i] / n;
    logarithms += std::log(values[i]) / n;
  }
  return std::log(sum) - logarithms;
}

TEST(KlShampoo, ReportsHowFlatItsTailsAre) {
  for (const optim::Root root : {optim::Root::eigenbasis, optim::Root::newton_schulz}) {
    optim::KlShampoo optimizer({.root = root, .tail_rank = 6});
    Batch b(optimizer, 11, 23, 2);
    optim::KlShampoo quiet({.root = root});
    const Batch unmeasured(quiet, 11, 23, 2);
    EXPECT_GE(b.dry_run.kernel_calls.count("matrix_eigen"), 1u);
    EXPECT_LE(unmeasured.dry_run.workspace_bytes, b.dry_run.workspace_bytes);
    for (size_t k = 0; k < 2; k++) b.set_param(k, gradient(11, 23, 99, k, 1));
    Recorder recorder;
    for (int64_t t = 1; t <= 30; t++) {
      for (size_t k = 0; k < 2; k++) b.set_grad(k, gradient(11, 23, static_cast<uint64_t>(t), k));
      const optim::StepInfo info{
          .t = t, .lr_multiplier = 1, .gradient_scale = 1, .metrics = t == 30 ? &recorder : nullptr};
      optimizer.step(b.context, b.batch, info);
    }
    // Eigenvalues in fp32 are off by some n units of rounding of the largest, which here is below 1e4 of the least: their
    // logarithms by 23 * 6e-8 * 1e4.
    const double tolerance = 2e-2;
    EXPECT_NEAR(recorder.values.at("matrix1.left_tail_gap"), reference_gap(b.state("s_a", 1), 6), tolerance);
    EXPECT_NEAR(recorder.values.at("matrix0.right_tail_gap"), reference_gap(b.state("s_b", 0), 6), tolerance);
    EXPECT_GT(recorder.values.at("matrix0.right_tail_gap"), 0.02);
    EXPECT_GT(recorder.values.at("kl-shampoo.11x23.tail_report_seconds"), 0);
  }
}

TEST(KlShampoo, ASideWithoutATailIsNotReported) {
  optim::KlShampoo optimizer({.tail_rank = 11});
  Batch b(optimizer, 11, 23);
  b.set_param(0, gradient(11, 23, 99));
  Recorder recorder;
  for (int64_t t = 1; t <= 2; t++) {
    b.set_grad(0, gradient(11, 23, static_cast<uint64_t>(t)));
    optimizer.step(b.context, b.batch,
                   {.t = t, .lr_multiplier = 1, .gradient_scale = 1, .metrics = &recorder});
  }
  EXPECT_FALSE(recorder.values.contains("matrix0.left_tail_gap"));
  EXPECT_TRUE(recorder.values.contains("matrix0.right_tail_gap"));
}

}  // namespace
}  // namespace kiln::tests
