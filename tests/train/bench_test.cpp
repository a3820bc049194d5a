#include "src/train/bench.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "tests/train/support.h"

namespace kiln::train {
namespace {

config::Config bench_config() {
  config::Config c = small_config(3, 4);
  c.optimizer.name = "muon";
  c.optimizer.ns = "jordan";
  c.optimizer.ns_precision = "f32";
  c.device = {.kind = "cpu", .threads = 2, .isa = "auto", .arena = "slab"};
  return c;
}

TEST(SpreadOf, MedianEndsAndMean) {
  const Spread odd = spread_of({5, 1, 3}), even = spread_of({4, 1, 2, 9});
  EXPECT_EQ(odd.median, 3);
  EXPECT_EQ(even.median, 3);
  EXPECT_EQ(even.least, 1);
  EXPECT_EQ(even.most, 9);
  EXPECT_EQ(even.mean, 4);
}

TEST(Bench, PartsAddUpToTheStep) {
  const config::Config config = bench_config();
  std::vector<int64_t> progress;
  const BenchResult r =
      bench(config, {.steps = 5, .warmup = 2}, [&](int64_t done, int64_t) { progress.push_back(done); });
  EXPECT_EQ(progress, (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(r.step_ms.size(), 5u);
  EXPECT_EQ(r.step_tokens, config.train.tokens_per_step);
  EXPECT_EQ(r.micro_batches, 4);
  ASSERT_EQ(r.optimizers.size(), 2u);  // two AdamW groups (with and without decay) are one row
  EXPECT_EQ(r.optimizers[0].first, "adamw");
  EXPECT_EQ(r.optimizers[1].first, "muon");
  EXPECT_GT(r.optimizers[1].second.least, 0);
  EXPECT_NEAR(r.passes.mean + r.optimizer_mean_ms() + r.rest.mean, r.step.mean, 1e-9 * r.step.mean + 1e-12);
  EXPECT_LE(r.mfu(), 1);
  EXPECT_GT(r.mfu(), 0);
  EXPECT_GE(r.peak_gflops, r.measured_peak_gflops);
  EXPECT_DOUBLE_EQ(r.config_step_ms(), r.step.mean);
  EXPECT_EQ(r.planned_bytes, plan::plan_run(config, cpu_device(2)).plan.layout().total_bytes)
      << "the plan of training";
  const auto out = nlohmann::json::parse(json_of(r));
  EXPECT_EQ(out["optimizers"]["muon"]["share"].get<double>(), r.optimizers[1].second.mean / r.step.mean);
  EXPECT_NE(text_of(r).find("optimizer muon"), std::string::npos);
}

// Memory that is not there is said before anything is written: here nothing could be.
TEST(Bench, AsksForMemoryBeforeItWritesTokens) {
  config::Config config = bench_config();
  config.train.micro_batch = int64_t{1} << 34;
  config.train.tokens_per_step = config.train.loss_rows = config.train.micro_batch * config.train.sequence;
  const char* before = ::getenv("TMPDIR");
  const std::string saved = before ? before : "";
  ::setenv("TMPDIR", "/proc/nowhere", 1);
  const std::string message =
      kiln::testing::error_message(ExitCode::failure, [&] { bench(config, {.steps = 1, .warmup = 0}); });
  before ? ::setenv("TMPDIR", saved.c_str(), 1) : ::unsetenv("TMPDIR");
  EXPECT_NE(message.find("out of memory"), std::string::npos) << message;
}

TEST(Bench, FewerMicroBatchesTellOfTheWholeStep) {
  const BenchResult r = bench(bench_config(), {.steps = 2, .warmup = 0, .micro_batches = 1});
  EXPECT_EQ(r.step_tokens, 21);
  EXPECT_EQ(r.config_micro_batches, 4);
  EXPECT_NEAR(r.config_step_ms(), r.step.mean + 3 * r.passes.mean, 1e-9);
  EXPECT_NE(text_of(r).find("a step of the config has 4 micro-batches"), std::string::npos);
}

}  // namespace
}  // namespace kiln::train
