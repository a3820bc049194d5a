#include "src/plan/describe.h"

#include <gtest/gtest.h>

#include <cstdio>

#include "src/config/load.h"
#include "tests/paths.h"

namespace kiln::plan {
namespace {

struct Described {
  config::Config config;
  PlannedRun run;
};

Described planned(const std::vector<std::string>& overrides = {}) {
  Described d{.config = config::load(paths::source() + "/configs/gpt2-mini/adamw.json", overrides),
              .run = {}};
  d.run = plan_run(d.config, cpu_device(2));
  return d;
}

// The formula in words gives the number that the kernel calls gave.
TEST(FlopsText, TheFormulaIsTheCount) {
  for (const std::vector<std::string>& overrides : std::vector<std::vector<std::string>>{
           {},
           {"train.sequence=64"},
           {"model.layers=1", "model.width=20", "model.heads=2", "model.ffn=33", "model.vocab=257"}}) {
    const Described d = planned(overrides);
    const std::string text = flops_text(d.run, d.config);
    long long weights = 0, layers = 0, width = 0, sequence = 0;
    ASSERT_EQ(std::sscanf(text.substr(text.find("= 6 x")).c_str(), "= 6 x %lld", &weights), 1) << text;
    ASSERT_EQ(std::sscanf(text.substr(text.find("+ 6 x")).c_str(), "+ 6 x %lld x %lld x %lld", &layers,
                          &width, &sequence),
              3)
        << text;
    const double tokens = static_cast<double>(d.run.shape.B * d.run.shape.T);
    EXPECT_DOUBLE_EQ(d.run.training_flops / tokens,
                     static_cast<double>(6 * weights + 6 * layers * width * sequence))
        << text;
  }
}

TEST(PlanText, AnyNumberOfRanks) {
  const Described d = planned(
      {"train.micro_batch=2", "train.sequence=128", "train.tokens_per_step=1536"});  // 6 micro-batches
  const std::string one = plan_text(d.run, d.config, 1);
  EXPECT_EQ(one.find("rank"), std::string::npos) << one;
  EXPECT_NE(one.find("wte.weight"), std::string::npos) << one;
  const std::string total = fmt::format("total bytes: {}\n", d.run.plan.layout().total_bytes);
  for (const int64_t ranks : {1, 2, 3, 4, 5, 6, 7, 1000}) {
    EXPECT_NE(plan_text(d.run, d.config, ranks).find(total), std::string::npos)
        << "each rank holds everything";
  }
  EXPECT_NE(plan_text(d.run, d.config, 3).find("6 micro-batches of 2 x 128, 2 on each rank"),
            std::string::npos);
  const std::string uneven = plan_text(d.run, d.config, 4);
  EXPECT_NE(uneven.find("4 ranks cannot share that evenly"), std::string::npos) << uneven;
  EXPECT_NE(uneven.find("a multiple of 1024 (micro_batch x sequence x ranks), for example 2048"),
            std::string::npos)
      << uneven;
  EXPECT_NE(plan_text(d.run, d.config, 7).find("for example 1792"), std::string::npos);
  EXPECT_NE(plan_text(d.run, d.config, 1000).find("for example 256000"), std::string::npos);
}

}  // namespace
}  // namespace kiln::plan
