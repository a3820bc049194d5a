// Training steps against PyTorch in float64 (tests/fixtures, made by scripts/make-fixtures).
#include <iostream>

#include "tests/train/support.h"

namespace kiln::train {
namespace {

using models::difference;
using models::fixture;
using models::values;

class TorchTraining : public ::testing::TestWithParam<ArenaMode> {};
INSTANTIATE_TEST_SUITE_P(Arena, TorchTraining, ::testing::Values(ArenaMode::slab, ArenaMode::discrete),
                         [](const auto& mode) {
                           return mode.param == ArenaMode::slab ? "slab" : "discrete";
                         });

// Twenty AdamW steps as a run takes them - plan, routing, optimizers, train_step. Only the batches come
// another way: those of the fixture are no windows of one row of tokens, and leave out some targets.
TEST_P(TorchTraining, TwentyAdamWSteps) {
  const SafetensorsFile start = fixture("gpt2_tiny.safetensors"),
                        file = fixture("gpt2_tiny_adamw.safetensors");
  const auto setting = [&](const char* key) { return std::stod(file.metadata().at(key)); };
  const auto stride = static_cast<size_t>(setting("stride"));
  const std::vector<int32_t> tokens = values<int32_t>(file, "tokens"),
                             targets = values<int32_t>(file, "targets");  // (steps, 3, 37)
  const std::vector<float> expected_losses = values<float>(file, "mean_losses");

  const models::ModelShape shape = models::tiny_shape();
  config::Config config;
  config.model = {.family = "gpt2",
                  .layers = shape.layers,
                  .width = shape.width,
                  .heads = shape.heads,
                  .ffn = shape.ffn,
                  .vocab = shape.vocab,
                  .vocab_multiple = shape.padded_vocab,
                  .context = shape.context,
                  .tied = "on",
                  .norm_eps = 1e-5};
  config.train.micro_batch = 3;
  config.train.sequence = 37;
  config.train.tokens_per_step = 111;
  config.train.loss_rows = 40;
  config.optimizer = config::defaults().optimizer;
  config.optimizer.name = "adamw";
  config.optimizer.lr = setting("lr");
  config.optimizer.b1 = setting("b1");
  config.optimizer.b2 = setting("b2");
  config.optimizer.eps = setting("eps");
  config.optimizer.wd = setting("weight_decay");
  config.validation.tokens = 37;
  const kiln::testing::TemporaryFolder folder;
  write_shard(folder / "any.bin", {tokens.begin(), tokens.begin() + 111});
  RunBench bench(config, folder / "any.bin", 2, GetParam());
  models::load_parameters(bench.parameters(), start);

  double counted = 0;  // targets of the step's batch that are not left out
  WatchedModel& model = bench.watch();
  model.before = [&](WatchedModel::Call& call) {
    ASSERT_EQ(call.tokens.size(), 111u);
    EXPECT_EQ(call.scale, 1.0f / 111);
    const auto first = static_cast<int64_t>(model.calls.size() - 1) * 111;
    call.tokens.assign(&tokens[first], &tokens[first] + 111);
    call.targets.assign(&targets[first], &targets[first] + 111);
    counted = static_cast<double>(
        std::count_if(call.targets.begin(), call.targets.end(), [](int32_t t) { return t >= 0; }));
    call.scale = 1.0f / static_cast<float>(counted);
  };
  double worst_loss = 0;
  for (const float expected : expected_losses) {
    const StepResult result = bench.step();
    EXPECT_FALSE(result.skipped);
    const double loss = result.loss * 111 / counted;
    EXPECT_NEAR(loss, expected, 1e-3 * expected) << "step " << bench.position.step;
    worst_loss = std::max(worst_loss, std::abs(loss / expected - 1));
  }
  EXPECT_EQ(bench.position.step, static_cast<int64_t>(setting("steps")));

  models::Difference worst;
  for (const Parameter& p : bench.parameters().all()) {
    const std::vector<float> expected = values<float>(file, "sample/" + p.name);
    std::vector<float> is, should;
    for (size_t i = 0; i < expected.size(); i++) {
      // A bias of the keys shifts all scores of a query alike, so its gradient is zero in exact arithmetic;
      // Adam divides the rounding noise that is left by its own size, and the two programs' noise is not
      // alike.
      const auto row = static_cast<int64_t>(i * stride);
      if (p.name.ends_with("qkv.bias") && row >= shape.width && row < 2 * shape.width) continue;
      is.push_back(p.master[i * stride]);
      should.push_back(expected[i]);
    }
    const models::Difference d = difference(is, should);
    EXPECT_LT(d.norm, 1e-3) << p.name;
    EXPECT_LT(d.max, 1e-3) << p.name;
    worst = {std::max(worst.norm, d.norm), std::max(worst.max, d.max)};
  }
  std::cout << "losses " << worst_loss << ", parameters " << worst.norm << " (norm), " << worst.max
            << " (largest element)\n";

  // Padding starts at zero, gets no gradient, and stays.
  const Parameter& wte = bench.parameters().all()[0];
  ASSERT_EQ(wte.name, "wte.weight");
  for (int64_t i = shape.vocab * shape.width; i < wte.elements(); i++) ASSERT_EQ(wte.master[i], 0.0f);
}

}  // namespace
}  // namespace kiln::train
