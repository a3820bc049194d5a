#include "src/plan/planned_run.h"

#include <gtest/gtest.h>

#include "src/config/load.h"
#include "tests/paths.h"

namespace kiln::plan {
namespace {

PlannedRun plan_preset(const char* preset, const std::vector<std::string>& overrides = {}) {
  const auto config = config::load(paths::source() + "/configs/" + preset, overrides);
  Device device;
  device.isa = best_isa();
  device.threads = 2;
  return plan_run(config, device);
}

// 50304 x 768 + 1024 x 768 + 12 (12 x 768^2 + 13 x 768) + 2 x 768; 124,439,808 without the 47 padding rows.
TEST(PlannedRun, Gpt2SmallHasItsParameters) {
  const PlannedRun run = plan_preset("gpt2-124m/adamw.json");
  EXPECT_EQ(run.model->parameters().elements(), 124439808 + 47 * 768);
}

TEST(PlannedRun, MemoryOfGpt2SmallFollowsItsParameters) {
  const PlannedRun run = plan_preset("gpt2-124m/adamw.json");
  const auto layout = run.plan.layout();
  const auto bytes = static_cast<size_t>(run.model->parameters().elements()) * 4;
  const auto of = [&](Category c) { return layout.category_bytes[static_cast<size_t>(c)]; };
  // Each of the 148 tensors is rounded up to 128 bytes.
  EXPECT_GE(of(Category::parameters), bytes);
  EXPECT_LE(of(Category::parameters), bytes + 148 * 127);
  EXPECT_EQ(of(Category::gradients), of(Category::parameters));
  EXPECT_EQ(of(Category::optimizer_state), 2 * of(Category::parameters));
  size_t sum = 0;
  for (size_t category : layout.category_bytes) sum += category;
  EXPECT_EQ(sum, layout.total_bytes);
}

// Optimizer state in fp32 GiB, calculated by hand with three digits (2.8265 was rounded up); AdamW's part for embeddings,
// norms and biases included, vocabulary padded.
TEST(PlannedRun, OptimizerStateFollowsTheElementFormulas) {
  const auto gib = [](const char* preset, std::vector<std::string> overrides) {
    const PlannedRun run = plan_preset(preset, overrides);
    double bytes = 0;
    for (const PlanEntry& e : run.plan.entries()) {
      if (e.category == Category::optimizer_state) bytes += static_cast<double>(e.bytes);
    }
    return bytes / (1 << 30);
  };
  const struct {
    const char* preset;
    std::vector<std::string> overrides;
    double small, medium;  // gpt2-124m, gpt2-350m
  } cases[] = {{"gpt2-124m/adamw.json", {}, 0.927, 2.644},
               {"gpt2-124m/muon.json", {}, 0.611, 1.519},
               {"gpt2-124m/kl-shampoo.json", {}, 2.827, 9.396},
               {"gpt2-124m/pro-kl-shampoo-r128.json", {}, 0.985, 2.794},
               {"gpt2-124m/pro-kl-shampoo-r128.json", {"optimizer.orientation=input"}, 1.763, 5.572}};
  for (const auto& c : cases) {
    EXPECT_NEAR(gib(c.preset, c.overrides), c.small, 0.0006) << c.preset;
    std::vector<std::string> medium = {"model.layers=24", "model.width=1024", "model.heads=16", "model.ffn=4096"};
    medium.insert(medium.end(), c.overrides.begin(), c.overrides.end());
    EXPECT_NEAR(gib(c.preset, medium), c.medium, 0.0006) << c.preset << " 350m";
  }
}

// "If n > m, no buffer of n^2 elements may exist": the widest side of gpt2-124m's matrices is 3072.
TEST(PlannedRun, ProKlShampooNeedsNothingOfTheSquareOfTheLargerSide) {
  const PlannedRun run = plan_preset("gpt2-124m/pro-kl-shampoo-r128.json");
  for (const PlanEntry& e : run.plan.entries()) {
    if (e.category == Category::optimizer_state) {
      // Momenta are 3072 x 768, AdamW's embeddings 50304 x 768: nothing else is as large as 3072^2.
      EXPECT_TRUE(e.bytes < size_t{3072} * 3072 * 4 || e.name.starts_with("wte.")) << e.name;
    }
  }
  // One such square alone would be half of what temporaries may take, and KL-Shampoo's workspace holds some.
  EXPECT_LT(run.plan.entries()[static_cast<size_t>(run.workspace_id)].bytes, size_t{96} << 20);
}

// Forward: two flops per weight of every linear layer and of the head; attention 2 T C per layer and token (the causal
// half of two T x T x C products). Backward twice that.
TEST(PlannedRun, FlopsAreCountedFromTheCalls) {
  const PlannedRun run = plan_preset("gpt2-124m/adamw.json");
  const double tokens = static_cast<double>(run.shape.B * run.shape.T), T = static_cast<double>(run.shape.T);
  const double weights = 12.0 * 12 * 768 * 768 + 50304.0 * 768;
  const double forward = 2 * weights + 12 * 2 * T * 768;
  EXPECT_DOUBLE_EQ(run.forward_flops / tokens, forward);
  EXPECT_DOUBLE_EQ(run.training_flops / tokens, 3 * forward);
}

TEST(PlannedRun, MicroBatchesFillTheStep) {
  EXPECT_EQ(plan_preset("gpt2-124m/adamw.json", {"train.micro_batch=4"}).micro_batches, 524288 / (4 * 1024));
}

}  // namespace
}  // namespace kiln::plan
