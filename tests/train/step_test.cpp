#include "src/train/step.h"

#include <cmath>
#include <limits>
#include <numbers>
#include <thread>

#include "optim/schedule.h"
#include "tests/optim/adamw_error.h"
#include "tests/train/support.h"

namespace kiln::train {
namespace {

using kiln::testing::TemporaryFolder;
using models::difference;
using models::random_tokens;
using tests::AdamWErrorBound;
using tests::kUnit;
using tests::ReferenceAdamW;

constexpr int64_t kT = 7;
// Thirteen windows: three steps of six sequences begin the second epoch in the middle of a step.
constexpr int64_t kTokens = 13 * kT + 3;

// How far two computations of one gradient in fp32 may lie apart that cut the batch into other pieces: 12 L +
// 4 = 28 operations in a row, each of which rounds to u relative to its largest summand; sums of n <= 42
// numbers add errors like sqrt(n) u; attention and norms have condition numbers of some ten here. Both
// computations are that far from the exact gradient at most, and a few hundredths of it if not all errors
// work in one direction.
const double kGradientTolerance = 2 * 28 * std::sqrt(42.0) * 10 * kUnit;
// A loss has half of the operations behind it.
const double kLossTolerance = kGradientTolerance / 2;

class Step : public ::testing::Test {
 protected:
  Step() { write_shard(shard(), random_tokens(kTokens, 29, 3)); }
  std::string shard() const { return folder_ / "shard.bin"; }

 private:
  const TemporaryFolder folder_;
};

struct MeanGradient {
  std::vector<std::vector<float>> of_parameters;
  double loss = 0, norm = 0;
};

// The mean over samples [first, first + count), one window at a time, added in fp64.
MeanGradient mean_gradient(RunBench& bench, int64_t first, int64_t count) {
  std::vector<std::vector<double>> sums;
  for (const Parameter& p : bench.parameters().all()) sums.emplace_back(p.elements(), 0.0);
  std::vector<float> losses(kT);
  MeanGradient mean;
  for (int64_t sample = first; sample < first + count; sample++) {
    const auto [tokens, targets] = window_of(bench.dataset, bench.sampler.window(sample), kT);
    for (const Parameter& p : bench.parameters().all()) std::fill_n(p.gradient, p.elements(), 0.0f);
    bench.run.model->forward_backward(bench.context, tokens.data(), targets.data(), 1, kT, 1.0f,
                                      losses.data());
    for (const float loss : losses) mean.loss += loss;
    for (size_t i = 0; i < sums.size(); i++) {
      for (size_t j = 0; j < sums[i].size(); j++) sums[i][j] += bench.parameters().all()[i].gradient[j];
    }
  }
  const auto tokens_in_all = static_cast<double>(count * kT);
  mean.loss /= tokens_in_all;
  for (const auto& sum : sums) {
    mean.of_parameters.emplace_back();
    for (const double x : sum) {
      mean.of_parameters.back().push_back(static_cast<float>(x / tokens_in_all));
      mean.norm += x / tokens_in_all * (x / tokens_in_all);
    }
  }
  mean.norm = std::sqrt(mean.norm);
  return mean;
}

void expect_close(RunBench& bench, const std::vector<std::vector<float>>& is,
                  const std::vector<std::vector<float>>& expected, double tolerance) {
  ASSERT_EQ(is.size(), expected.size());
  for (size_t i = 0; i < is.size(); i++) {
    const models::Difference d = difference(is[i], expected[i]);
    EXPECT_LT(d.norm, tolerance) << bench.parameters().all()[i].name;
    EXPECT_LT(d.max, tolerance) << bench.parameters().all()[i].name;
  }
}

// However the step is cut into micro-batches, whatever the gradients held before, at weights that earlier
// steps have changed, over the border of an epoch.
TEST_F(Step, GradientIsTheMeanOverTheTokensOfTheStep) {
  for (const auto& [B, micro_batches] : {std::pair{6, 1}, {3, 2}, {2, 3}, {1, 6}, {1, 1}, {2, 1}}) {
    RunBench bench(small_config(B, micro_batches), shard());
    const int64_t samples = B * micro_batches;
    for (int64_t step = 0; step < 3; step++) {
      SCOPED_TRACE(fmt::format("{} micro-batches of {}, step {}", micro_batches, B, step));
      const MeanGradient expected = mean_gradient(bench, step * samples, samples);
      const StepResult result = bench.step();
      expect_close(bench, bench.gradients(), expected.of_parameters, kGradientTolerance);
      EXPECT_NEAR(result.loss, expected.loss, kLossTolerance * expected.loss);
      EXPECT_NEAR(result.gradient_norm, expected.norm, kGradientTolerance * expected.norm);
      EXPECT_FALSE(result.skipped);
      EXPECT_EQ(bench.position.step, step + 1);
      EXPECT_EQ(bench.position.optimizer_t, step + 1);
      EXPECT_EQ(bench.position.samples, (step + 1) * samples);
    }
  }
}

// The first update is lr g/(|g| + eps) of the clipped gradient g, which changes by at most lr/eps times as
// much as g does: by the gradient's and the norm's difference, each halved at least by clipping; the weights
// and the update round some ten times besides. An eps this large tells gradients apart by their size.
TEST_F(Step, MicroBatchesGiveTheUpdateOfOneLargeBatch) {
  constexpr double kEps = 0.01, kClip = 0.5;
  const auto bench_of = [&](int64_t B, int64_t micro_batches) {
    config::Config config = small_config(B, micro_batches);
    config.optimizer.eps = kEps;
    auto bench = std::make_unique<RunBench>(config, shard());
    const StepResult result = bench->step({.clip = kClip, .lr_multiplier = 0.7});
    EXPECT_GT(result.gradient_norm, 2 * kClip) << "clipping should act";
    return bench;
  };
  const auto large = bench_of(6, 1);
  const auto gradients = large->gradients(), weights = large->weights();
  for (const auto& [B, micro_batches] : {std::pair{3, 2}, {2, 3}, {1, 6}}) {
    SCOPED_TRACE(fmt::format("{} micro-batches of {}", micro_batches, B));
    const auto bench = bench_of(B, micro_batches);
    expect_close(*bench, bench->gradients(), gradients, kGradientTolerance);
    const auto found = bench->weights();
    for (size_t i = 0; i < found.size(); i++) {
      double largest = 0;
      for (const float g : gradients[i]) largest = std::max(largest, std::abs(static_cast<double>(g)));
      const double moved = 0.7 * 1e-2 * (kGradientTolerance * largest / kEps + 10 * kUnit);
      for (size_t j = 0; j < found[i].size(); j++) {
        ASSERT_NEAR(found[i][j], weights[i][j], moved + 10 * kUnit * std::abs(weights[i][j]))
            << bench->parameters().all()[i].name << " " << j;
      }
    }
  }
}

// llm.c's cosine (llmc/schedulers.h): step counts from 0.
double cosine_of_llm_c(int64_t step, int64_t warmup, int64_t steps, double final) {
  if (step < warmup) return static_cast<double>(step + 1) / static_cast<double>(warmup);
  const double decay_ratio = static_cast<double>(step - warmup) / static_cast<double>(steps - warmup);
  const double coefficient = 0.5 * (1.0 + std::cos(std::numbers::pi * decay_ratio));
  return final + coefficient * (1.0 - final);
}

// Twelve steps of a run against AdamW in fp64 that is fed with the gradients of each step, clipped by a norm
// that is computed here: without clipping, with clipping that always acts, and with one that acts now and
// then.
TEST_F(Step, UpdatesFollowTheReferenceThroughScheduleAndClipping) {
  constexpr int64_t kSteps = 12, kWarmup = 4;
  constexpr double kFinal = 0.1;
  const optim::Schedule schedule{
      .kind = "cosine", .steps = kSteps, .warmup = kWarmup, .final = kFinal, .decay_fraction = 0};
  const config::Config config = small_config(2, 3);
  std::vector<double> norms;  // of the run without clipping
  for (const int kind : {0, 1, 2}) {
    RunBench bench(config, shard());
    auto middle = norms;
    std::sort(middle.begin(), middle.end());
    const double clip = kind == 0 ? 0.0 : kind == 1 ? 0.01 : middle[kSteps / 2];
    SCOPED_TRACE(fmt::format("clip {}", clip));
    const auto& parameters = bench.parameters().all();
    std::vector<ReferenceAdamW> references;
    std::vector<AdamWErrorBound> bounds(parameters.size());
    std::vector<std::vector<double>> weights;
    for (const Parameter& p : parameters) {
      const double decay = p.shape.size() == 2 ? config.optimizer.wd : 0.0;
      references.push_back({config.optimizer.lr,
                            config.optimizer.b1,
                            config.optimizer.b2,
                            config.optimizer.eps,
                            decay,
                            {},
                            {}});
      weights.emplace_back(p.master, p.master + p.elements());
    }
    int clipped = 0;
    for (int64_t step = 0; step < kSteps; step++) {
      SCOPED_TRACE(fmt::format("step {}", step));
      const StepResult result =
          bench.step({.clip = clip, .lr_multiplier = optim::multiplier(schedule, bench.position.step)});
      double sum = 0;
      for (const Parameter& p : parameters) {
        for (int64_t i = 0; i < p.elements(); i++) sum += static_cast<double>(p.gradient[i]) * p.gradient[i];
      }
      const double norm = std::sqrt(sum);
      EXPECT_NEAR(result.gradient_norm, norm, 1e-13 * norm);
      if (kind == 0) norms.push_back(norm);
      const double scale = clip > 0 ? std::min(1.0, clip / norm) : 1.0;
      clipped += scale < 1;
      const double multiplier = cosine_of_llm_c(step, kWarmup, kSteps, kFinal);
      for (size_t k = 0; k < parameters.size(); k++) {
        const Parameter& p = parameters[k];
        const std::vector<double> gradient(p.gradient, p.gradient + p.elements());
        references[k].step(weights[k], gradient, multiplier, scale);
        bounds[k].step(references[k], weights[k], gradient, config.optimizer.lr * multiplier, scale);
        for (size_t i = 0; i < weights[k].size(); i++) {
          ASSERT_NEAR(p.master[i], weights[k][i], bounds[k].w[i]) << p.name << " " << i;
        }
      }
    }
    EXPECT_TRUE(kind == 0   ? clipped == 0
                : kind == 1 ? clipped == kSteps
                            : clipped > 2 && clipped < kSteps - 2)
        << clipped << " of " << kSteps << " steps were clipped";
    for (const auto& state : bench.run.optimizers->state_tensors()) {
      const std::string of = state.name.substr(0, state.name.size() - 2);
      const auto p = std::find_if(parameters.begin(), parameters.end(),
                                  [&](const Parameter& q) { return q.name == of; });
      ASSERT_NE(p, parameters.end()) << state.name;
      const auto k = static_cast<size_t>(p - parameters.begin());
      const bool first = state.name.ends_with(".m");
      const auto& expected = first ? references[k].m : references[k].v;
      const auto& bound = first ? bounds[k].m : bounds[k].v;
      for (size_t i = 0; i < expected.size(); i++) {
        ASSERT_NEAR(state.data[i], expected[i], bound[i]) << state.name << " " << i;
      }
    }
  }
}

// One element of one parameter in one micro-batch is enough. The run goes on as if the step had only used up
// its samples: no momentum, no statistics, no decay, whatever the optimizer (those with statistics seed them in their first
// step and move in the second).
TEST_F(Step, ANonFiniteGradientSkipsTheUpdate) {
  struct Case {
    size_t micro_batch;
    bool first;  // element of the first parameter, else the last of the last
    float value;
  };
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const StepOptions options{.clip = 1, .lr_multiplier = 0.5};
  for (const char* optimizer : {"adamw", "muon", "kl-shampoo", "pro-kl-shampoo"}) {
    config::Config config = small_config(2, 3);
    config.optimizer.name = optimizer;
    config.optimizer.ns = config.optimizer.name == "muon" ? "jordan" : "polar_express";
    config.optimizer.rank = 5;
    config.optimizer.tracker_every = 1;
    config.optimizer.refresh = 3;  // in the step that is skipped, and in the next
    for (const Case& c :
         {Case{0, true, std::nanf("")}, Case{2, false, kInfinity}, Case{1, false, -kInfinity}}) {
      SCOPED_TRACE(fmt::format("{}: {} in micro-batch {}", optimizer, c.value, c.micro_batch));
      RunBench bench(config, shard()), other(config, shard());
      const auto weights = bench.weights();
      for (int t = 1; t <= 2; t++) bench.step(options), other.step(options);
      const std::string before = bench.bytes();
      ASSERT_TRUE(other.bytes() == before);
      for (size_t i = 0; i < weights.size(); i++) ASSERT_NE(bench.weights()[i], weights[i]) << i;

      WatchedModel& model = bench.watch();
      model.after = [&] {
        if (model.calls.size() != c.micro_batch + 1) return;
        const auto& all = bench.parameters().all();
        (c.first ? all.front().gradient[0] : all.back().gradient[all.back().elements() - 1]) = c.value;
      };
      const StepResult skipped = bench.step(options);
      EXPECT_TRUE(skipped.skipped);
      EXPECT_FALSE(std::isfinite(skipped.gradient_norm));
      EXPECT_TRUE(std::isfinite(skipped.loss));
      EXPECT_TRUE(bench.bytes() == before);
      EXPECT_EQ(bench.position.step, 3);
      EXPECT_EQ(bench.position.optimizer_t, 2);
      EXPECT_EQ(bench.position.samples, 18);

      other.position = {.step = 3, .optimizer_t = 2, .samples = 18};
      const StepResult next = bench.step(options), expected = other.step(options);
      EXPECT_FALSE(next.skipped);
      EXPECT_EQ(next.loss, expected.loss);
      EXPECT_EQ(next.gradient_norm, expected.gradient_norm);
      EXPECT_TRUE(bench.bytes() != before);
      EXPECT_TRUE(bench.bytes() == other.bytes());
      EXPECT_EQ(bench.position.optimizer_t, 3);
    }
  }
}

// The gradient of a loss that is not finite may be finite all the same: it means nothing. With and without guards, whose
// windows never see it.
TEST_F(Step, ANonFiniteLossSkipsTheUpdateAndSaysSo) {
  for (const bool guarded : {false, true}) {
    RunBench bench(small_config(2, 3), shard());
    Guards guards{.loss = OutlierWindow(1e6, 2), .gradient_norm = OutlierWindow(1e6, 2)};
    const StepOptions options{.clip = 1, .lr_multiplier = 0.5, .guards = guarded ? &guards : nullptr};
    for (int step = 0; step < 3; step++) EXPECT_EQ(bench.step(options).reason, Skip::none);
    const std::string before = bench.bytes();
    const auto window = guards.loss.values();
    bench.watch().after = [&] { bench.run.losses[3] = std::numeric_limits<float>::infinity(); };
    for (int step = 0; step < 2; step++) {
      const StepResult result = bench.step(options);
      EXPECT_TRUE(result.skipped);
      EXPECT_EQ(result.reason, Skip::loss_not_finite) << "it counts toward train.max_skipped";
      EXPECT_TRUE(std::isfinite(result.gradient_norm));
      EXPECT_FALSE(std::isfinite(result.loss));
    }
    EXPECT_TRUE(bench.bytes() == before);
    EXPECT_EQ(guards.loss.values(), window);
    EXPECT_EQ(bench.position.optimizer_t, 3);
  }
}

// A guard skips a step as a gradient that is not finite does: nothing moves but position and window.
TEST_F(Step, AnOutlierSkipsTheUpdate) {
  constexpr int64_t kWindow = 4;
  for (const Skip reason : {Skip::loss_outlier, Skip::gradient_norm_outlier}) {
    SCOPED_TRACE(reason == Skip::loss_outlier ? "loss" : "gradient norm");
    const bool by_loss = reason == Skip::loss_outlier;
    RunBench bench(small_config(2, 3), shard()), other(small_config(2, 3), shard());
    // The windows of the data are so alike that twice of everything lies hundreds of deviations off.
    Guards guards{.loss = OutlierWindow(by_loss ? 40 : 0, kWindow),
                  .gradient_norm = OutlierWindow(by_loss ? 0 : 40, kWindow)};
    const StepOptions options{.clip = 1, .lr_multiplier = 1e-4, .guards = &guards};
    WatchedModel& model = bench.watch();
    double factor = 1;
    model.after = [&] {
      for (Parameter& p : bench.parameters().all()) {
        for (int64_t i = 0; i < p.elements() && !by_loss && factor != 1; i++)
          p.gradient[i] *= static_cast<float>(factor);
      }
      for (int64_t i = 0; i < 2 * kT && by_loss; i++) bench.run.losses[i] *= static_cast<float>(factor);
    };
    factor = 100;  // nothing is judged before the window has filled: the first step passes, then leaves it
    EXPECT_FALSE(bench.step(options).skipped);
    factor = 1;
    for (int64_t step = 1; step < kWindow + 1; step++) {
      const StepResult result = bench.step(options);
      EXPECT_FALSE(result.skipped);
      EXPECT_EQ(std::isnan(by_loss ? result.loss_deviations : result.norm_deviations), step < kWindow);
    }
    const std::string before = bench.bytes();
    factor = 100;
    const StepResult skipped = bench.step(options);
    EXPECT_TRUE(skipped.skipped);
    EXPECT_EQ(skipped.reason, reason);
    EXPECT_GT(by_loss ? skipped.loss_deviations : skipped.norm_deviations, 40);
    EXPECT_TRUE(std::isnan(by_loss ? skipped.norm_deviations : skipped.loss_deviations));
    EXPECT_TRUE(bench.bytes() == before);
    EXPECT_EQ(bench.position.step, kWindow + 2);
    EXPECT_EQ(bench.position.optimizer_t, kWindow + 1);
    EXPECT_EQ(bench.position.samples, 6 * (kWindow + 2));
    factor = 1;
    EXPECT_FALSE(bench.step(options).skipped);
    EXPECT_TRUE(bench.bytes() != before);

    // Guards that see no outlier change nothing.
    RunBench unguarded(small_config(2, 3), shard());
    Guards calm{.loss = OutlierWindow(1e6, kWindow), .gradient_norm = OutlierWindow(1e6, kWindow)};
    for (int64_t step = 0; step < 2 * kWindow; step++) {
      const StepResult a = other.step({.clip = 1, .lr_multiplier = 1, .guards = &calm});
      EXPECT_EQ(a.loss, unguarded.step({.clip = 1, .lr_multiplier = 1}).loss);
    }
    EXPECT_TRUE(other.bytes() == unguarded.bytes());
  }
}

// Every step has the samples of the first, all of its micro-batches; a tiny model learns them by heart.
TEST_F(Step, OneBatchIsLearntByHeart) {
  config::Config config = small_config(2, 2);
  config.optimizer.wd = 0;
  RunBench bench(config, shard());
  WatchedModel& model = bench.watch();
  double loss = 0;
  constexpr int64_t kSteps = 400;
  for (int64_t step = 0; step < kSteps; step++) {
    loss = bench.step({.clip = 1, .lr_multiplier = 1, .first_batch = true}).loss;
  }
  for (size_t call = 0; call < model.calls.size(); call++) {
    for (int64_t b = 0; b < 2; b++) {
      const auto sample = static_cast<int64_t>(call % 2) * 2 + b;
      const auto [tokens, targets] = window_of(bench.dataset, bench.sampler.window(sample), kT);
      const auto& batch = model.calls[call];
      ASSERT_TRUE(std::equal(tokens.begin(), tokens.end(), &batch.tokens[b * kT])) << "call " << call;
      ASSERT_TRUE(std::equal(targets.begin(), targets.end(), &batch.targets[b * kT])) << "call " << call;
    }
  }
  EXPECT_EQ(bench.position.samples, 4 * kSteps);
  // 28 random tokens of 29, unlikely to repeat a context: nothing but memory gets below ln 29 = 3.4.
  EXPECT_LT(loss, 0.02);
}

// Micro-batch by micro-batch, rank after rank; the windows are the sampler's, inputs and targets of each.
TEST_F(Step, RanksShareOutTheSamplesAndAgree) {
  constexpr int64_t kB = 2, kMicroBatches = 24, kSteps = 2;  // 48 samples, several epochs
  const config::Config config = small_config(kB, kMicroBatches);
  const StepOptions options{.clip = 0.5, .lr_multiplier = 0.7};
  RunBench single(config, shard());
  const StepResult expected = single.step(options);
  const auto gradients = single.gradients();
  for (const int ranks : {1, 2, 3, 8}) {
    SCOPED_TRACE(fmt::format("{} ranks", ranks));
    MeetingPlace place(ranks);
    std::vector<std::unique_ptr<RunBench>> benches;
    std::vector<WatchedModel*> models;
    for (int rank = 0; rank < ranks; rank++) {
      benches.push_back(std::make_unique<RunBench>(config, shard(), 1));
      benches.back()->ranks = std::make_unique<ThreadRank>(place, rank);
      benches.back()->run.micro_batches = kMicroBatches / ranks;
      models.push_back(&benches.back()->watch());
    }
    std::vector<std::vector<StepResult>> results(benches.size());
    std::vector<std::vector<float>> first_gradients;
    std::vector<std::thread> threads;
    for (size_t rank = 0; rank < benches.size(); rank++) {
      threads.emplace_back([&, rank] {
        for (int64_t step = 0; step < kSteps; step++) {
          results[rank].push_back(benches[rank]->step(options));
          if (rank == 0 && step == 0) first_gradients = benches[0]->gradients();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();

    int64_t sample = 0;
    for (size_t call = 0; call < static_cast<size_t>(kSteps * kMicroBatches / ranks); call++) {
      for (size_t rank = 0; rank < benches.size(); rank++) {
        const WatchedModel::Call& micro_batch = models[rank]->calls.at(call);
        EXPECT_EQ(micro_batch.scale, 1.0f / (kB * kMicroBatches * kT));
        for (int64_t b = 0; b < kB; b++, sample++) {
          const auto [tokens, targets] = window_of(single.dataset, single.sampler.window(sample), kT);
          const auto at = b * kT;
          EXPECT_EQ(tokens, (std::vector<int32_t>{&micro_batch.tokens[at], &micro_batch.tokens[at] + kT}))
              << "rank " << rank << ", micro-batch " << call;
          EXPECT_EQ(targets, (std::vector<int32_t>{&micro_batch.targets[at], &micro_batch.targets[at] + kT}));
        }
      }
    }
    for (size_t rank = 0; rank < benches.size(); rank++) {
      EXPECT_EQ(models[rank]->calls.size(), static_cast<size_t>(kSteps * kMicroBatches / ranks));
      EXPECT_TRUE(benches[rank]->bytes() == benches[0]->bytes());
      EXPECT_EQ(benches[rank]->position.samples, sample);
      EXPECT_EQ(benches[rank]->position.step, kSteps);
      for (size_t step = 0; step < static_cast<size_t>(kSteps); step++) {
        EXPECT_EQ(results[rank][step].loss, results[0][step].loss);
      }
    }
    // Later steps start from weights that differ by the rounding of the first.
    const double larger = std::sqrt(kB * kMicroBatches * kT / 42.0);  // the tolerances are for 42 tokens
    EXPECT_NEAR(results[0][0].loss, expected.loss, larger * kLossTolerance * expected.loss);
    expect_close(single, first_gradients, gradients, larger * kGradientTolerance);
  }
}

TEST_F(Step, ANonFiniteGradientOfOneRankSkipsTheStepOnAll) {
  MeetingPlace place(2);
  std::vector<std::unique_ptr<RunBench>> benches;
  for (int rank = 0; rank < 2; rank++) {
    benches.push_back(std::make_unique<RunBench>(small_config(2, 2), shard(), 1));
    benches.back()->ranks = std::make_unique<ThreadRank>(place, rank);
    benches.back()->run.micro_batches = 1;
  }
  const std::string before = benches[0]->bytes();
  benches[1]->watch().after = [&] { benches[1]->parameters().all()[3].gradient[1] = std::nanf(""); };
  StepResult results[2];
  std::thread other([&] { results[1] = benches[1]->step(); });
  results[0] = benches[0]->step();
  other.join();
  for (size_t rank = 0; rank < 2; rank++) {
    EXPECT_TRUE(results[rank].skipped) << "rank " << rank;
    EXPECT_TRUE(benches[rank]->bytes() == before) << "rank " << rank;
    EXPECT_EQ(benches[rank]->position.samples, 4) << "rank " << rank;
    EXPECT_EQ(benches[rank]->position.optimizer_t, 0) << "rank " << rank;
  }
}

}  // namespace
}  // namespace kiln::train
