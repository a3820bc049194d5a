// What must hold of every family whatever its numbers: chunks, batch sizes, accumulation, threads, causality.
#include <algorithm>
#include <utility>

#include "tests/models/harness.h"

namespace kiln::models {
namespace {

class TransformerTest : public testing::TestWithParam<Variant> {
 protected:
  TransformerTest() : file_(fixture(GetParam().file())) {
    tokens_ = values<int32_t>(file_, "tokens");
    targets_ = values<int32_t>(file_, "targets");
  }

  std::unique_ptr<Bench> bench(BatchShape batch = tiny_batch(), int threads = 2) {
    batch.recompute = GetParam().recompute;
    auto bench = std::make_unique<Bench>(
        GetParam().shape(), batch,
        BenchOptions{.threads = threads, .arena = GetParam().arena, .family = GetParam().family()});
    load_parameters(bench->parameters(), file_);
    return bench;
  }

  SafetensorsFile file_;
  std::vector<int32_t> tokens_, targets_;  // (3, 37)
};
INSTANTIATE_TEST_SUITE_P(Variants, TransformerTest, testing::ValuesIn(kVariants), variant_name);

// Two orders of the same sums of at most 111 rows: errors of sqrt(111) 2^-24 each. (3e-8 was seen.)
constexpr double kSameSums = 2 * 10.5 * 0x1p-24;

TEST_P(TransformerTest, ChunksOfTheHeadDoNotMatter) {
  auto whole = bench();
  const std::vector<float> losses = whole->forward_backward(tokens_, targets_, 3, 37, 0.01f);
  for (int64_t loss_rows : {100, 37, 7}) {
    BatchShape batch = tiny_batch();
    batch.loss_rows = loss_rows;
    auto chunked = bench(batch);
    EXPECT_LT(difference(chunked->forward_backward(tokens_, targets_, 3, 37, 0.01f), losses).max, kSameSums);
    EXPECT_LT(difference(chunked->gradients(), whole->gradients()).norm, kSameSums) << loss_rows;
  }
}

TEST_P(TransformerTest, BatchesSmallerThanPlanned) {
  BatchShape large{.B = 5, .T = 41, .loss_rows = 64, .training = true};
  auto planned_larger = bench(large);
  for (const auto& [B, T] : {std::pair<int64_t, int64_t>{3, 37}, {1, 37}, {3, 11}, {2, 1}, {1, 1}, {5, 22}}) {
    const std::vector<int32_t> tokens = random_tokens(B * T, 67, 1), targets = random_tokens(B * T, 67, 2);
    auto exact = bench({.B = B, .T = T, .loss_rows = 64, .training = true});
    const std::vector<float> losses = exact->forward_backward(tokens, targets, B, T, 0.1f);
    planned_larger->zero_gradients();
    EXPECT_EQ(planned_larger->forward_backward(tokens, targets, B, T, 0.1f), losses);
    EXPECT_EQ(planned_larger->gradients(), exact->gradients());
    EXPECT_EQ(planned_larger->forward(tokens, targets, B, T), losses);
  }
  EXPECT_THROW(planned_larger->forward(random_tokens(6, 67, 1), random_tokens(6, 67, 2), 6, 1), Error);
  EXPECT_THROW(planned_larger->forward(random_tokens(42, 67, 1), random_tokens(42, 67, 2), 1, 42), Error);
}

// Planned without training, buffers are shared between layers; the losses are the same.
TEST_P(TransformerTest, ForwardOnly) {
  BatchShape batch = tiny_batch();
  const std::vector<float> expected = bench(batch)->forward(tokens_, targets_, 3, 37);
  batch.training = false;
  auto forward_only = bench(batch);
  EXPECT_EQ(forward_only->forward(tokens_, targets_, 3, 37), expected);
  EXPECT_THROW(forward_only->forward_backward(tokens_, targets_, 3, 37, 1.0f), Error);
}

// Gradients and losses are those of a pass that keeps everything, to the bit.
TEST_P(TransformerTest, RecomputationChangesNothing) {
  BatchShape batch = tiny_batch();
  const BenchOptions options{.arena = GetParam().arena, .family = GetParam().family()};
  Bench keeps(GetParam().shape(), batch, options);
  batch.recompute = true;
  Bench recomputes(GetParam().shape(), batch, options);
  for (Bench* bench : {&keeps, &recomputes}) load_parameters(bench->parameters(), file_);
  for (int64_t T : {37, 5}) {
    const std::vector<float> losses = keeps.forward_backward(tokens_, targets_, 3, T, 0.01f);
    EXPECT_EQ(recomputes.forward_backward(tokens_, targets_, 3, T, 0.01f), losses);
    EXPECT_EQ(recomputes.gradients(), keeps.gradients());
    EXPECT_EQ(recomputes.forward(tokens_, targets_, 3, T), losses);
  }
}

TEST_P(TransformerTest, GradientsAccumulate) {
  const std::vector<int32_t> other_tokens = random_tokens(2 * 29, 67, 1),
                             other_targets = random_tokens(2 * 29, 67, 2);
  auto first = bench(), second = bench(), both = bench();
  first->forward_backward(tokens_, targets_, 3, 37, 0.01f);
  second->forward_backward(other_tokens, other_targets, 2, 29, 0.02f);
  both->forward_backward(tokens_, targets_, 3, 37, 0.01f);
  both->forward_backward(other_tokens, other_targets, 2, 29, 0.02f);
  std::vector<float> sum = first->gradients();
  const std::vector<float> more = second->gradients();
  for (size_t i = 0; i < sum.size(); i++) sum[i] += more[i];
  EXPECT_LT(difference(both->gradients(), sum).norm, kSameSums);
}

TEST_P(TransformerTest, GradientsScale) {
  auto one = bench(), two = bench();
  one->forward_backward(tokens_, targets_, 3, 37, 0.01f);
  two->forward_backward(tokens_, targets_, 3, 37, 0.02f);  // twice as much: exact in binary
  std::vector<float> doubled = one->gradients();
  for (float& g : doubled) g *= 2;
  EXPECT_LT(difference(two->gradients(), doubled).norm, kSameSums);
}

TEST_P(TransformerTest, SameBitsForAnyNumberOfThreads) {
  BatchShape batch = tiny_batch();
  batch.loss_rows = 50;
  auto reference = bench(batch, 1);
  const std::vector<float> losses = reference->forward_backward(tokens_, targets_, 3, 37, 0.01f);
  for (int threads : {1, 2, 3}) {
    auto other = bench(batch, threads);
    EXPECT_EQ(other->forward_backward(tokens_, targets_, 3, 37, 0.01f), losses) << threads << " threads";
    EXPECT_EQ(other->gradients(), reference->gradients()) << threads << " threads";
  }
}

// A token changes the losses from its own position on, and no others, and none of the other sequences.
TEST_P(TransformerTest, Causal) {
  auto model = bench();
  const std::vector<float> before = model->forward(tokens_, targets_, 3, 37);
  for (int64_t position : {0, 1, 17, 36}) {
    std::vector<int32_t> changed = tokens_;
    const int64_t at = 37 + position;  // in the second sequence
    changed[at] = (changed[at] + 1) % 67;
    const std::vector<float> after = model->forward(changed, targets_, 3, 37);
    for (int64_t i = 0; i < 3 * 37; i++) {
      const bool may_change = i >= at && i < 2 * 37 && targets_[i] >= 0;
      EXPECT_EQ(before[i] != after[i], may_change) << "position " << position << ", loss " << i;
    }
  }
}

// Buffers that share memory by their lifetimes compute what buffers of their own compute; the shapes make the
// layout put different neighbours together.
TEST(TransformerMemory, SharingChangesNothing) {
  const std::vector<int32_t> tokens = random_tokens(2 * 19, 67, 1), targets = random_tokens(2 * 19, 67, 2);
  for (const auto& [family, recompute] :
       {std::pair(families::gpt2::kFamily, false), std::pair(families::gpt2::kFamily, true),
        std::pair(families::llama::kFamily, false), std::pair(families::llama::kFamily, true)}) {
    for (int64_t layers : {1, 2, 4}) {
      for (int64_t ffn : {8, 24, 72, 96, 136, 192, 400}) {
        for (int64_t loss_rows : {3, 38}) {
          const ModelShape shape{.layers = layers,
                                 .width = 48,
                                 .heads = 2,
                                 .ffn = ffn,
                                 .vocab = 67,
                                 .padded_vocab = 96,
                                 .context = 19,
                                 .norm_eps = 1e-5,
                                 .rope_theta = 10000};
          BatchShape batch{.B = 2, .T = 19, .loss_rows = loss_rows, .training = true, .recompute = recompute};
          Bench discrete(shape, batch, {.arena = ArenaMode::discrete, .family = family}),
              slab(shape, batch, {.family = family});
          discrete.model->initialise(discrete.context, 1);
          slab.model->initialise(slab.context, 1);
          const std::vector<float> losses = discrete.forward_backward(tokens, targets, 2, 19, 1.0f);
          const std::string what = fmt::format("{} {}, {} layers, ffn {}, loss_rows {}", family.name,
                                               recompute, layers, ffn, loss_rows);
          EXPECT_EQ(slab.forward_backward(tokens, targets, 2, 19, 1.0f), losses) << what;
          EXPECT_EQ(slab.gradients(), discrete.gradients()) << what;
          batch.training = false;
          Bench forward_only(shape, batch, {.family = family});
          forward_only.model->initialise(forward_only.context, 1);
          EXPECT_EQ(forward_only.forward(tokens, targets, 2, 19), losses) << what;
        }
      }
    }
  }
}

}  // namespace
}  // namespace kiln::models
