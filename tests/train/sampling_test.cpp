#include "src/train/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "src/core/random.h"

namespace kiln::train {
namespace {

constexpr int64_t kV = 5;
const float kLogits[kV] = {0.5f, 2.0f, -1.0f, 2.0f, 1.0f};

int32_t draw(double u, const SamplingOptions& options) {
  int32_t scratch[kV];
  return draw_token(kLogits, kV, options, u, scratch);
}

TEST(DrawToken, ZeroTemperatureTakesTheFirstOfTheLikeliest) {
  for (double u : {0.0, 0.5, 0.999}) EXPECT_EQ(draw(u, {.temperature = 0}), 1);
}

TEST(DrawToken, FollowsTheCumulativeDistribution) {
  double weight[kV], total = 0;
  for (int i = 0; i < kV; i++) total += weight[i] = std::exp(kLogits[i] / 0.7);
  double edge = 0;
  for (int i = 0; i < kV; i++) {
    EXPECT_EQ(draw(edge / total + 1e-9, {.temperature = 0.7}), i);
    edge += weight[i];
    EXPECT_EQ(draw(edge / total - 1e-9, {.temperature = 0.7}), i);
  }
}

// The distribution by its definition: sort, cut, renormalise.
std::vector<double> exact(const std::vector<float>& logits, const SamplingOptions& options) {
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  if (options.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(options.top_k)));
  std::vector<double> p(logits.size(), 0.0);
  double total = 0;
  for (size_t id : order) total += p[id] = std::exp(logits[id] / options.temperature);
  double mass = 0;
  size_t kept = 0;
  while (kept < order.size() && (kept == 0 || mass < options.top_p)) mass += p[order[kept++]] / total;
  for (size_t i = kept; i < order.size(); i++) p[order[i]] = 0;
  for (double& x : p) x /= mass * total;
  return p;
}

// Counts of n independent draws: the number of times a token of probability p comes has the deviation
// sqrt(n p (1 - p)); six of them are exceeded with a probability of 2e-9, once in a million such tests of some
// hundred tokens. A probability of 0 allows none at all.
TEST(DrawToken, CountsAgreeWithExactProbabilities) {
  const Random logits_random(3, 1);
  std::vector<float> logits(37);
  for (size_t i = 0; i < logits.size(); i++) logits[i] = static_cast<float>(2 * logits_random.normal(i));
  logits[5] = logits[6] = logits[30];  // ties
  std::vector<int32_t> scratch(logits.size());
  constexpr int kDraws = 10000;
  uint64_t stream = 0;
  for (const double temperature : {0.3, 1.0, 2.5}) {
    for (const int64_t top_k : {0, 1, 7, 37}) {
      for (const double top_p : {1.0, 0.9, 0.5, 0.05, 1e-12, 0.0}) {
        const SamplingOptions options{.temperature = temperature, .top_k = top_k, .top_p = top_p};
        const std::vector<double> p = exact(logits, options);
        std::vector<int> counts(logits.size(), 0);
        const Random random(11, stream++);
        for (uint64_t i = 0; i < kDraws; i++) {
          counts[static_cast<size_t>(
              draw_token(logits.data(), 37, options, random.uniform(i), scratch.data()))]++;
        }
        for (size_t id = 0; id < logits.size(); id++) {
          EXPECT_NEAR(counts[id], kDraws * p[id],
                      6 * std::sqrt(kDraws * p[id] * std::max(0.0, 1 - p[id])) + 1e-6)
              << "token " << id << ", temperature " << temperature << ", top_k " << top_k << ", top_p "
              << top_p;
        }
      }
    }
  }
}

TEST(DrawToken, OfEqualTokensTheLowerIdsStay) {
  EXPECT_EQ(draw(0.99, {.top_k = 1}), 1);
  EXPECT_EQ(draw(0.99, {.top_p = 1e-9}), 1);
  for (int i = 0; i < 100; i++) {
    const int32_t token = draw(i / 100.0, {.top_k = 2});
    EXPECT_TRUE(token == 1 || token == 3) << token;
  }
  const std::vector<float> equal(100, 0.25f);
  std::vector<int32_t> scratch(100);
  for (int i = 0; i < 100; i++) {
    EXPECT_LT(draw_token(equal.data(), 100, {.top_k = 10}, i / 100.0, scratch.data()), 10);
    EXPECT_LT(draw_token(equal.data(), 100, {.top_p = 0.095}, i / 100.0, scratch.data()), 10);
  }
}

TEST(DrawToken, HugeLogitsDoNotOverflow) {
  const float logits[3] = {1e30f, -1e30f, 0};
  int32_t scratch[3];
  for (const double top_p : {1.0, 0.5}) {
    EXPECT_EQ(draw_token(logits, 3, {.temperature = 0.1, .top_p = top_p}, 0.99, scratch), 0);
  }
}

TEST(DrawToken, WhatIsNoNumberIsNotDrawn) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float some[4] = {nan, 1, nan, 2}, none[4] = {nan, nan, nan, nan};
  int32_t scratch[4];
  for (const SamplingOptions& options :
       {SamplingOptions{}, {.temperature = 0}, {.top_k = 3}, {.top_p = 0.9}}) {
    for (int i = 0; i < 100; i++) {
      const int32_t token = draw_token(some, 4, options, i / 100.0, scratch);
      EXPECT_TRUE(token == 1 || token == 3) << token;
      const int32_t any = draw_token(none, 4, options, i / 100.0, scratch);
      EXPECT_TRUE(any >= 0 && any < 4) << any;
    }
  }
}

}  // namespace
}  // namespace kiln::train
