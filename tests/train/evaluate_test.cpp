#include "src/train/evaluate.h"

#include <cmath>
#include <map>

#include "tests/train/support.h"

namespace kiln::train {
namespace {

using kiln::testing::TemporaryFolder;
using models::random_tokens;

constexpr int64_t kT = 7;
// Of two forward passes in fp32 that cut the batch differently: half of what step_test.cpp derives for
// gradients.
const double kLossTolerance = 28 * std::sqrt(42.0) * 10 * 0x1p-24;

class Evaluate : public ::testing::Test {
 protected:
  Evaluate() { write_shard(folder_ / "training.bin", random_tokens(20 * kT + 1, 29, 3)); }
  std::unique_ptr<RunBench> bench(int64_t micro_batch, int64_t validation_tokens) const {
    config::Config config = small_config(micro_batch, 2);
    config.validation.tokens = validation_tokens;
    return std::make_unique<RunBench>(config, folder_ / "training.bin");
  }
  // A validation set of exactly that many windows, and a few tokens that fill no window more.
  data::Dataset windows(int64_t count) const {
    const auto path = folder_ / fmt::format("validation_{}.bin", count);
    write_shard(path, random_tokens(count * kT + 1 + kT / 2, 29, 100 + static_cast<uint64_t>(count)));
    return {path, 29, kT};
  }

  data::Dataset shard_of(const std::vector<int32_t>& tokens) const {
    const auto path = folder_ / fmt::format("tokens_{}.bin", tokens.size());
    write_shard(path, tokens);
    return {path, 29, kT};
  }

 private:
  const TemporaryFolder folder_;
};

// As during a run.
std::optional<Evaluation> validate(RunBench& bench, const data::Dataset& dataset, int64_t tokens) {
  return evaluate(bench.context, bench.run, dataset, tokens_of_whole_windows(dataset, tokens));
}

// The first `count` windows, one pass for each.
struct ByHand {
  double loss = 0, entropy = 0;
};
ByHand evaluate_by_hand(RunBench& bench, const data::Dataset& dataset, int64_t count) {
  ByHand result;
  std::vector<float> losses(kT);
  std::map<int32_t, double> occurrences;
  for (int64_t window = 0; window < count; window++) {
    const auto [tokens, targets] = window_of(dataset, window, kT);
    bench.run.model->forward(bench.context, tokens.data(), targets.data(), 1, kT, losses.data());
    double sum = 0;
    for (const float loss : losses) sum += loss;
    for (const int32_t target : targets) occurrences[target]++;
    result.loss += sum / static_cast<double>(count * kT);
  }
  for (const auto& [token, times] : occurrences) {
    const double p = times / static_cast<double>(count * kT);
    result.entropy -= p * std::log(p);
  }
  return result;
}

struct Case {
  int64_t micro_batch, tokens, windows;  // sequences a pass at most; validation.tokens; what there is
  int64_t used;                          // windows that count
};
const Case kCases[] = {
    {3, 9 * kT, 9, 9},      // three full batches, all there is
    {3, 6 * kT, 9, 6},      // fewer tokens asked for than are there
    {3, 8 * kT + 6, 9, 8},  // the last batch is not full
    {3, 100 * kT, 8, 8},    // the same where the data end
    {3, 100 * kT, 3, 3},    // one batch
    {4, 100 * kT, 3, 3},    // less than a batch
    {4, 100 * kT, 1, 1},    // a single window
    {4, 2 * kT, 9, 2},      // fewer tokens than a batch: the batch is smaller
    {4, 2 * kT + 3, 1, 1},  // less than both
    {4, 1, 9, 1},           // fewer tokens than a window: one window all the same
    {1, 5 * kT, 9, 5},
};

TEST_F(Evaluate, IsTheMeanOverTheFirstWindows) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(fmt::format("micro-batch {}, {} tokens, {} windows", c.micro_batch, c.tokens, c.windows));
    const auto run = bench(c.micro_batch, c.tokens);
    const data::Dataset dataset = windows(c.windows);
    ASSERT_EQ(dataset.windows(), c.windows);
    WatchedModel& model = run->watch();
    const Evaluation found = validate(*run, dataset, c.tokens).value();
    const std::vector<WatchedModel::Call> passes = model.forward_calls;
    const ByHand expected = evaluate_by_hand(*run, dataset, c.used);
    EXPECT_EQ(found.tokens, c.used * kT);
    EXPECT_NEAR(found.loss, expected.loss, kLossTolerance * expected.loss);
    EXPECT_NEAR(found.unigram_entropy, expected.entropy, 1e-13);
    // Each of them once, in passes of the planned size; places that stay empty have no target.
    int64_t window = 0;
    for (const WatchedModel::Call& pass : passes) {
      EXPECT_EQ(pass.B, run->run.validation_batch);
      for (int64_t at = 0; at < pass.B * kT; at += kT, window++) {
        if (window >= c.used) {
          EXPECT_EQ(std::vector<int32_t>(&pass.targets[at], &pass.targets[at] + kT),
                    std::vector<int32_t>(kT, -1));
          continue;
        }
        const auto [tokens, targets] = window_of(dataset, window, kT);
        EXPECT_EQ(tokens, (std::vector<int32_t>{&pass.tokens[at], &pass.tokens[at] + kT})) << window;
        EXPECT_EQ(targets, (std::vector<int32_t>{&pass.targets[at], &pass.targets[at] + kT})) << window;
      }
    }
    EXPECT_EQ(window, round_up(c.used, run->run.validation_batch));
  }
}

// Every token but the first once, whatever the ragged end: in the order of the set, from what precedes it in its
// window.
TEST_F(Evaluate, PredictsEveryTokenOnce) {
  for (const int64_t total : {kT + 1, kT + 2, 2 * kT, 2 * kT + 1, 3 * kT, 9 * kT + 4, 12 * kT + 1, 13 * kT}) {
    for (const int64_t micro_batch : {1, 3}) {
      SCOPED_TRACE(fmt::format("{} tokens, micro-batch {}", total, micro_batch));
      const std::vector<int32_t> tokens = random_tokens(total, 29, static_cast<uint64_t>(total));
      const data::Dataset dataset = shard_of(tokens);
      const auto run = bench(micro_batch, 100 * kT);
      double expected = 0;
      std::vector<float> losses(kT);
      for (int64_t begin = 0; begin + 1 < total; begin += kT) {
        const int64_t n = std::min(kT, total - 1 - begin);
        run->run.model->forward(run->context, &tokens[begin], &tokens[begin + 1], 1, n, losses.data());
        for (int64_t i = 0; i < n; i++) expected += losses[i] / static_cast<double>(total - 1);
      }
      WatchedModel& model = run->watch();
      std::vector<int64_t> heard;
      const Evaluation found =
          evaluate(run->context, run->run, dataset, predicted_tokens(dataset), [&](int64_t done) {
            heard.push_back(done);
          }).value();
      EXPECT_EQ(found.tokens, total - 1);
      EXPECT_NEAR(found.loss, expected, kLossTolerance * expected);
      std::vector<int32_t> predicted;
      for (const WatchedModel::Call& pass : model.forward_calls) {
        EXPECT_EQ(pass.B, run->run.validation_batch);
        for (size_t i = 0; i < pass.targets.size(); i++) {
          if (pass.targets[i] < 0) continue;
          EXPECT_EQ(pass.tokens[i], tokens[predicted.size()]);
          EXPECT_EQ(i % kT, predicted.size() % kT);
          predicted.push_back(pass.targets[i]);
        }
      }
      EXPECT_EQ(predicted, (std::vector<int32_t>{tokens.begin() + 1, tokens.end()}));
      std::vector<int64_t> counts(29, 0);
      for (const int32_t token : predicted) counts[token]++;
      EXPECT_EQ(std::vector<int64_t>(run->run.token_counts, run->run.token_counts + 29), counts);
      EXPECT_EQ(heard.size(), model.forward_calls.size());
      EXPECT_EQ(heard.back(), total - 1);
    }
  }
}

// Planned for evaluation only, the same bits as during a run.
TEST_F(Evaluate, IsTheSameWithoutTraining) {
  config::Config config = small_config(3, 2);
  config.validation.tokens = 100 * kT;
  const auto trained = bench(3, 100 * kT);
  const data::Dataset dataset = windows(10);
  const Evaluation expected =
      evaluate(trained->context, trained->run, dataset, predicted_tokens(dataset)).value();
  plan::PlannedRun run = plan::plan_run(config, trained->device, plan::Purpose::evaluation);
  for (const PlanEntry& entry : run.plan.entries()) {
    EXPECT_TRUE(entry.category != Category::gradients && entry.category != Category::optimizer_state)
        << entry.name;
  }
  const Arena arena(run.plan, ArenaMode::slab, trained->device);
  run.bind(arena);
  Context context;
  context.device = trained->device;
  context.pool = &trained->pool;
  context.workspace = run.workspace;
  for (size_t i = 0; i < run.model->parameters().all().size(); i++) {
    const Parameter& from = trained->parameters().all()[i];
    std::copy_n(from.master, from.elements(), run.model->parameters().all()[i].master);
  }
  run.model->parameters().bump_versions();
  const Evaluation found = evaluate(context, run, dataset, predicted_tokens(dataset)).value();
  EXPECT_EQ(found.loss, expected.loss);
  EXPECT_EQ(found.unigram_entropy, expected.unigram_entropy);
}

// Whatever ran before and between: the same windows, the same bits.
TEST_F(Evaluate, IsRepeatable) {
  const auto run = bench(3, 9 * kT);
  const data::Dataset dataset = windows(9), other = windows(4);
  const Evaluation first = validate(*run, dataset, 9 * kT).value();
  for (int round = 0; round < 2; round++) {
    validate(*run, other, 9 * kT);
    const Evaluation again = validate(*run, dataset, 9 * kT).value();
    EXPECT_EQ(again.loss, first.loss);
    EXPECT_EQ(again.unigram_entropy, first.unigram_entropy);
    EXPECT_EQ(again.tokens, first.tokens);
  }
  run->step();
  EXPECT_NE(validate(*run, dataset, 9 * kT)->loss, first.loss);
}

// Nothing of a run but its scratch memory: not the weights and the optimizer's state, not the gradients, not
// where the run stands, and not a bit of the steps that follow.
TEST_F(Evaluate, LeavesTrainingAsItWas) {
  const auto validated = bench(3, 9 * kT), undisturbed = bench(3, 9 * kT);
  const data::Dataset dataset = windows(10);
  const StepOptions options{.clip = 1, .lr_multiplier = 0.5};
  for (int step = 0; step < 3; step++) {
    const std::string before = validated->bytes();
    const auto gradients = validated->gradients();
    validate(*validated, dataset, 9 * kT);
    EXPECT_TRUE(validated->bytes() == before);
    EXPECT_TRUE(validated->gradients() == gradients);
    const StepResult found = validated->step(options), expected = undisturbed->step(options);
    EXPECT_EQ(found.loss, expected.loss);
    EXPECT_EQ(found.gradient_norm, expected.gradient_norm);
    EXPECT_TRUE(validated->bytes() == undisturbed->bytes());
    EXPECT_EQ(validated->position.samples, undisturbed->position.samples);
  }
}

}  // namespace
}  // namespace kiln::train
