// A token at a time with the cache, against the whole sequence in one pass.
#include "tests/models/harness.h"

namespace kiln::models {
namespace {

class DecodeTest : public testing::TestWithParam<Variant> {
 protected:
  DecodeTest() : file_(fixture(GetParam().file())), tokens_(values<int32_t>(file_, "tokens")) {
    tokens_.resize(37);
  }
  std::unique_ptr<Bench> bench(BatchShape batch, BenchOptions options) {
    batch.recompute = GetParam().recompute;
    options.family = GetParam().family();
    auto bench = std::make_unique<Bench>(GetParam().shape(), batch, options);
    load_parameters(bench->parameters(), file_);
    return bench;
  }
  std::unique_ptr<Bench> bench(bool training = true, int threads = 2) {
    BatchShape batch = tiny_batch();
    batch.training = training;
    return bench(batch, {.threads = threads, .arena = GetParam().arena});
  }
  // The first V logits; the rest is padding.
  static std::vector<float> meaning(std::vector<float> logits) {
    logits.resize(static_cast<size_t>(tiny_shape().vocab));
    return logits;
  }
  // Of every position, from one pass each.
  std::vector<std::vector<float>> whole_passes(Bench& bench) {
    std::vector<std::vector<float>> logits;
    for (int64_t t = 0; t < 37; t++) logits.push_back(meaning(bench.prefill(tokens_, 37, t + 1)));
    return logits;
  }

  // How far the same logits may lie apart (in the largest element, relative to the largest). A sum of n products in fp32,
  // in whatever order, is the exact sum of products whose weights are each changed by at most n u (Higham 2002, section
  // 3.1; u = 2^-24, n at most 192, the model's ffn). So either way of computing them lies no further from the exact logits
  // than such changes move them, which is measured here, with changes of that full size and random sign. Roundings are
  // smaller than their bound, in the mean by sqrt(n), which more than makes up for what has no weights: the softmax, the
  // activation, the sums of attention, of 37 terms at most.
  double same_logits() {
    constexpr float kMost = 192 * 0x1p-24f;
    double most = 0;
    auto exact = bench();
    const auto expected = whole_passes(*exact);
    for (const uint64_t seed : {1, 2, 3}) {
      auto changed = bench();
      for (Parameter& p : changed->parameters().all()) {
        const Random random(seed, hash_name(p.name.c_str()));
        for (int64_t i = 0; i < p.elements(); i++) {
          p.master[i] *= random.uniform(static_cast<uint64_t>(i)) < 0.5 ? 1 - kMost : 1 + kMost;
        }
      }
      changed->parameters().bump_versions();
      const auto moved = whole_passes(*changed);
      for (size_t t = 0; t < expected.size(); t++)
        most = std::max(most, difference(moved[t], expected[t]).max);
    }
    return 2 * most;
  }

  SafetensorsFile file_;
  std::vector<int32_t> tokens_;  // (37), one sequence
};
INSTANTIATE_TEST_SUITE_P(Variants, DecodeTest, testing::ValuesIn(kVariants), variant_name);

TEST_P(DecodeTest, EveryPositionHasTheLogitsOfTheWholePass) {
  const double same = same_logits();
  EXPECT_LT(same, 1e-3) << "another token would pass";
  for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (isa > best_isa()) continue;
    for (bool training : {true, false}) {
      BatchShape batch = tiny_batch();
      batch.training = training;
      auto model = bench(batch, {.arena = GetParam().arena, .isa = std::string(name_of(isa))});
      const auto expected = whole_passes(*model);
      for (const auto& [count, padded] :
           {std::pair<int64_t, int64_t>{1, 1}, {1, 16}, {2, 2}, {17, 32}, {36, 37}}) {
        SCOPED_TRACE(fmt::format("{}, prefill of {} in {}", name_of(isa), count, padded));
        double worst = difference(meaning(model->prefill(tokens_, padded, count)), expected[count - 1]).max;
        for (int64_t t = count; t < 37; t++) {
          worst = std::max(worst, difference(meaning(model->decode(tokens_[t], t)), expected[t]).max);
        }
        EXPECT_LT(worst, same);
      }
    }
  }
}

// The cache begins empty: no prefill at all.
TEST_P(DecodeTest, FromTheFirstTokenOn) {
  auto model = bench();
  const double same = same_logits();
  const auto expected = whole_passes(*model);
  for (int64_t t = 0; t < 37; t++) {
    EXPECT_LT(difference(meaning(model->decode(tokens_[t], t)), expected[t]).max, same) << t;
  }
}

// What stood in the cache before, a longer text, another one, does not matter; nor do passes in between.
TEST_P(DecodeTest, NothingOfAnEarlierTextIsLeft) {
  auto model = bench(), fresh = bench();
  model->prefill(random_tokens(37, 67, 9), 37, 37);
  model->prefill(tokens_, 16, 11);
  fresh->prefill(tokens_, 16, 11);
  const std::vector<int32_t> other = random_tokens(3 * 37, 67, 10);
  for (int64_t t = 11; t < 37; t++) {
    // Straight to the model: the bench spoils the cache before a pass.
    std::vector<float> losses(3 * 37);
    model->model->forward_backward(model->context, other.data(), other.data(), 3, 37, 1.0f, losses.data());
    EXPECT_EQ(model->decode(tokens_[t], t), fresh->decode(tokens_[t], t)) << t;
  }
}

TEST_P(DecodeTest, SameBitsForAnyNumberOfThreadsAndPlannedForTrainingOrNot) {
  auto reference = bench(true, 1);
  std::vector<std::vector<float>> expected = {reference->prefill(tokens_, 32, 20)};
  for (int64_t t = 20; t < 37; t++) expected.push_back(reference->decode(tokens_[t], t));
  for (bool training : {true, false}) {
    for (int threads : {1, 2, 3}) {
      auto other = bench(training, threads);
      EXPECT_EQ(other->prefill(tokens_, 32, 20), expected[0]);
      for (int64_t t = 20; t < 37; t++) EXPECT_EQ(other->decode(tokens_[t], t), expected[t - 19]) << t;
    }
  }
}

TEST_P(DecodeTest, RefusesWhatDoesNotFit) {
  BatchShape batch = tiny_batch();
  batch.cache = 20;
  auto model = bench(batch, {.arena = GetParam().arena});
  EXPECT_NO_THROW(model->prefill(tokens_, 37, 20));
  EXPECT_THROW(model->prefill(tokens_, 37, 21), Error);
  EXPECT_THROW(model->prefill(tokens_, 20, 0), Error);
  EXPECT_NO_THROW(model->decode(1, 19));
  EXPECT_THROW(model->decode(1, 20), Error);
  EXPECT_THROW(model->decode(1, -1), Error);
  Plan plan;
  batch.cache = 42;
  EXPECT_THROW(
      create_transformer(families::gpt2::kFamily, tiny_shape())->plan(plan, batch, DType::f32, cpu_device(1)),
      Error);  // context 41
}

// 2 layers kv_heads head_size positions, whatever the model is planned for besides.
TEST(DecodeMemory, IsKeysAndValuesOfEveryPosition) {
  const auto activation_bytes = [](const BatchShape& batch) {
    Plan plan;
    create_transformer(families::gpt2::kFamily, tiny_shape())->plan(plan, batch, DType::f32, cpu_device(1));
    return plan.layout().category_bytes[static_cast<size_t>(Category::activations)];
  };
  for (const BatchShape& without : {BatchShape{.B = 1, .T = 32, .loss_rows = 1, .training = false},
                                    BatchShape{.B = 3, .T = 32, .loss_rows = 1, .training = true}}) {
    BatchShape with = without;
    with.cache = 32;
    EXPECT_EQ(activation_bytes(with), activation_bytes(without) + 2 * 3 * 48 * 32 * sizeof(float));
  }
}

}  // namespace
}  // namespace kiln::models
