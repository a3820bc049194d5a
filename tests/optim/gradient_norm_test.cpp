#include "optim/gradient_norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/optim/support.h"

namespace kiln::tests {
namespace {

constexpr optim::AdamWOptions kSmallSteps{.lr = 1e-3, .b1 = 0.9, .b2 = 0.95, .eps = 1e-8, .wd = 0.1};

ParameterTable odd_table() {
  ParameterTable table = small_table();
  table.add("large.weight", {257, 131}, ParameterKind::matrix);
  table.add("long.bias", {40'009}, ParameterKind::bias);
  return table;
}

void fill(BoundRun& run) {
  for (size_t i = 0; i < run.table.all().size(); i++) {
    const Parameter& p = run.table.all()[i];
    const auto g = normals(p.elements(), i, std::pow(10.0, static_cast<double>(i) - 6));
    for (size_t j = 0; j < g.size(); j++) p.gradient[j] = static_cast<float>(g[j]);
  }
}

// Squares of fp32 numbers are exact in fp64 and all terms are positive, so n additions err by at most n
// 2^-53, some 8e-12 for 74,000 elements; the root halves that. long double is the reference.
TEST(GradientNorm, MatchesADirectSum) {
  BoundRun run(odd_table(), kSmallSteps);
  fill(run);
  long double sum = 0;
  for (const Parameter& p : run.table.all()) {
    for (int64_t j = 0; j < p.elements(); j++) sum += static_cast<long double>(p.gradient[j]) * p.gradient[j];
  }
  Machine machine;
  const double norm = run.norm.compute(machine.context, run.table);
  EXPECT_NEAR(norm, static_cast<double>(std::sqrt(sum)), norm * 8e-12 / 2);
}

TEST(GradientNorm, SameBitsForAnyNumberOfThreads) {
  BoundRun run(odd_table(), kSmallSteps);
  fill(run);
  Machine one(1), two(2), three(3);
  const double norm = run.norm.compute(one.context, run.table);
  EXPECT_EQ(norm, run.norm.compute(two.context, run.table));
  EXPECT_EQ(norm, run.norm.compute(three.context, run.table));
}

TEST(GradientNorm, HugeGradientsDoNotOverflow) {
  BoundRun run(odd_table(), kSmallSteps);
  run.table[2].gradient[5] = 3e38f;
  run.table[3].gradient[1] = -3e38f;
  Machine machine;
  const double expected = std::sqrt(2.0) * static_cast<double>(3e38f);
  EXPECT_NEAR(run.norm.compute(machine.context, run.table), expected, expected * 1e-15);
}

TEST(GradientNorm, OneBadElementShows) {
  BoundRun run(odd_table(), kSmallSteps);
  Machine machine;
  EXPECT_EQ(run.norm.compute(machine.context, run.table), 0.0);
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    for (const int index : {0, 1, 10, 11, 12}) {
      const Parameter& p = run.table[index];
      for (const int64_t at : {int64_t{0}, p.elements() / 2, p.elements() - 1}) {
        fill(run);
        p.gradient[at] = bad;
        EXPECT_FALSE(std::isfinite(run.norm.compute(machine.context, run.table)))
            << p.name << " " << at << " " << bad;
      }
    }
  }
}

TEST(GradientNorm, PlansOneNumberPerParameter) {
  Plan plan;
  const ParameterTable table = odd_table();
  optim::GradientNorm norm;
  norm.plan(plan, table);
  ASSERT_EQ(plan.entries().size(), 1u);
  EXPECT_EQ(plan.entries()[0].bytes, table.all().size() * 8);
}

TEST(GradientNorm, ADryRunNeedsNoMemory) {
  ParameterTable table = odd_table();
  DryRun record;
  Context context;
  context.device = cpu_device(1);
  context.dry_run = &record;
  EXPECT_EQ(optim::GradientNorm().compute(context, table), 0.0);
  EXPECT_EQ(record.kernel_calls["sum_of_squares"], static_cast<int64_t>(table.all().size()));
}

TEST(GradientNorm, ClipScale) {
  EXPECT_EQ(optim::clip_scale(4.0, 1.0), 0.25);
  EXPECT_EQ(optim::clip_scale(1.0, 1.0), 1.0);
  EXPECT_EQ(optim::clip_scale(0.5, 1.0), 1.0);
  EXPECT_EQ(optim::clip_scale(0.0, 1.0), 1.0);
  EXPECT_EQ(optim::clip_scale(1e30, 0.0), 1.0) << "0 means no clipping";
}

}  // namespace
}  // namespace kiln::tests
