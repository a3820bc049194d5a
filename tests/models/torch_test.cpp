// Every family against PyTorch in float64 (tests/fixtures, made by scripts/make-fixtures).
#include <algorithm>
#include <iostream>

#include "tests/models/harness.h"

namespace kiln::models {
namespace {

// What fp32 may differ from fp64: each of some 12 L + 4 = 40 operations in a row rounds to 2^-24 relative to
// its largest summand and sums of length n <= 192 add errors like sqrt(n) 2^-24; attention and norms have
// condition numbers of some ten here. Together 40 * sqrt(192) * 10 * 2^-24 = 3e-4 if all worked in one
// direction, 5e-5 as a random walk.
constexpr double kGradientTolerance = 1e-4;
// Losses and logits have the forward pass only behind them, half of the operations.
constexpr double kForwardTolerance = 5e-5;

class TorchTest : public testing::TestWithParam<Variant> {};
INSTANTIATE_TEST_SUITE_P(Variants, TorchTest, testing::ValuesIn(kVariants), variant_name);

// One pass over the fixture's batch against the fixture's numbers.
void compare(Bench& bench, const std::string& name, const std::string& what) {
  const SafetensorsFile file = fixture(name);
  const std::vector<int32_t> tokens = values<int32_t>(file, "tokens"),
                             targets = values<int32_t>(file, "targets");
  load_parameters(bench.parameters(), file);
  const std::vector<float> losses =
      bench.forward_backward(tokens, targets, 3, 37, values<float>(file, "scale")[0]);
  const Difference of_losses = difference(losses, values<float>(file, "losses"));
  EXPECT_LT(of_losses.max, kForwardTolerance);
  for (size_t i = 0; i < targets.size(); i++) {
    EXPECT_TRUE(targets[i] >= 0 || losses[i] == 0.0f);
  }
  EXPECT_EQ(bench.forward(tokens, targets, 3, 37), losses);
  Difference worst;
  for (const Parameter& p : bench.parameters().all()) {
    const std::vector<float> expected = values<float>(file, "grad/" + p.name);
    const Difference d = difference(p.gradient, expected.data(), expected.size());
    EXPECT_LT(d.norm, kGradientTolerance) << p.name;
    EXPECT_LT(d.max, kGradientTolerance) << p.name;
    worst = {std::max(worst.norm, d.norm), std::max(worst.max, d.max)};
    for (int64_t i = static_cast<int64_t>(expected.size()); i < p.elements(); i++) {
      EXPECT_EQ(p.gradient[i], 0.0f) << "padding of " << p.name;
    }
  }
  std::cout << what << ": losses " << of_losses.max << ", gradients " << worst.norm << " (norm), "
            << worst.max << " (largest element)\n";
}

TEST_P(TorchTest, LossesAndGradients) {
  for (int64_t loss_rows :
       {111, 1000, 40, 1}) {  // one chunk, one that is not filled, a ragged last one, single rows
    BatchShape batch = tiny_batch();
    batch.loss_rows = loss_rows;
    batch.recompute = GetParam().recompute;
    Bench bench(GetParam().shape(), batch, {.arena = GetParam().arena, .family = GetParam().family()});
    compare(bench, GetParam().file(), fmt::format("loss_rows {}", loss_rows));
  }
}

TEST_P(TorchTest, EveryInstructionSet) {
  for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (isa > best_isa()) continue;
    BatchShape batch = tiny_batch();
    batch.recompute = GetParam().recompute;
    Bench bench(GetParam().shape(), batch,
                {.arena = GetParam().arena, .isa = std::string(name_of(isa)), .family = GetParam().family()});
    compare(bench, GetParam().file(), std::string(name_of(isa)));
  }
}

TEST_P(TorchTest, PrefillLogits) {
  const SafetensorsFile file = fixture(GetParam().file());
  const std::vector<int32_t> tokens = values<int32_t>(file, "tokens");
  const std::vector<float> expected = values<float>(file, "logits");
  BatchShape forward_only = tiny_batch();
  forward_only.training = false;
  for (const BatchShape& batch : {tiny_batch(), forward_only}) {
    BatchShape shape = batch;
    shape.recompute = GetParam().recompute;
    Bench bench(GetParam().shape(), shape, {.arena = GetParam().arena, .family = GetParam().family()});
    load_parameters(bench.parameters(), file);
    const size_t V = static_cast<size_t>(bench.shape.vocab);
    size_t i = 0;
    for (int64_t row : values<int32_t>(file, "logit_rows")) {
      const int64_t b = row / 37, t = row % 37;
      const std::vector<int32_t> sequence(tokens.begin() + b * 37, tokens.begin() + (b + 1) * 37);
      for (int64_t T : {int64_t{37}, t + 1}) {  // what follows the position changes nothing
        const std::vector<float> logits = bench.prefill(sequence, T, t + 1);
        EXPECT_LT(difference(logits.data(), &expected[i * V], V).max, kForwardTolerance) << b << " " << t;
      }
      i++;
    }
  }
}

}  // namespace
}  // namespace kiln::models
