#include "src/train/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "src/core/random.h"
#include "tests/core/temporary_folder.h"

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

// An upper bound, whatever n and p, on the probability that `count` of n draws of probability p, or an even rarer number,
// come out: exp(-n KL(count / n || p)) (Chernoff; Hoeffding 1963, theorem 1, equation 2.1).
double log_chance(int count, int n, double p) {
  const auto part = [](double a, double b) {
    return a > 0 ? a * std::log(a / b) : 0.0;
  };  // log(a / 0) is infinite
  const double q = static_cast<double>(count) / n;
  return -n * (part(q, p) + part(1 - q, 1 - p));
}

TEST(LogChance, BoundsTheBinomialTails) {
  for (const double p : {0.5, 0.1, 0.003}) {
    double tail = 1;  // of `count` and more of 20
    for (int count = 0; count <= 20; count++) {
      if (count > 20 * p) {
        // `tail` is a difference of numbers near 1.
        EXPECT_LE(tail, std::exp(log_chance(count, 20, p)) + 1e-14) << count << " " << p;
      }
      const double ways = std::exp(std::lgamma(21) - std::lgamma(count + 1) - std::lgamma(21 - count));
      tail -= ways * std::pow(p, count) * std::pow(1 - p, 20 - count);
    }
  }
  EXPECT_EQ(log_chance(0, 20, 0), 0);
  EXPECT_EQ(log_chance(20, 20, 1), 0);
  EXPECT_LT(log_chance(1, 20, 0), -1e300);
  EXPECT_LT(log_chance(19, 20, 1), -1e300);
}

// Each count may be as rare as one in 1e10; of the 2664 two-sided ones here one is then beyond with a probability of less
// than 6e-7. A token of probability 0 may not come once.
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
          const double expected = std::min(1.0, p[id]);  // sums of weights may round one up
          EXPECT_GT(log_chance(counts[id], kDraws, expected), std::log(1e-10))
              << counts[id] << " times, " << kDraws * expected << " expected: token " << id
              << ", temperature " << temperature << ", top_k " << top_k << ", top_p " << top_p;
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

// Weights are exp(logit - largest), which is no number for two infinities.
TEST(DrawToken, InfiniteLogits) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float some[5] = {1, kInfinity, 2, kInfinity, nan}, none[3] = {-kInfinity, nan, -kInfinity};
  int32_t scratch[5];
  for (const SamplingOptions& options :
       {SamplingOptions{}, {.temperature = 100}, {.top_k = 3}, {.top_p = 0.9}}) {
    int counts[5] = {}, others[3] = {};
    for (int i = 0; i < 100; i++) {
      counts[draw_token(some, 5, options, i / 100.0, scratch)]++;
      others[draw_token(none, 3, options, i / 100.0, scratch)]++;
    }
    EXPECT_EQ(counts[1], 50);
    EXPECT_EQ(counts[3], 50);
    EXPECT_GE(std::min({others[0], others[1], others[2]}), 33) << "nothing tells them apart";
  }
}

// u so near 1 that rounding uses up the whole sum before a token is found: of those left over, the last has no
// probability at all.
TEST(DrawToken, ATokenWithoutProbabilityIsNeverDrawn) {
  const double u = std::nextafter(1.0, 0.0);
  int last = 0;
  for (uint64_t seed = 0; seed < 200; seed++) {
    const Random random(seed, 3);
    std::vector<float> logits(1000);
    for (size_t i = 0; i < logits.size(); i++) logits[i] = static_cast<float>(random.normal(i));
    logits.back() = -1e30f;
    std::vector<int32_t> scratch(logits.size());
    for (const SamplingOptions& options : {SamplingOptions{}, {.top_k = 1000}, {.top_p = 1 - 1e-12}}) {
      const int32_t token = draw_token(logits.data(), 1000, options, u, scratch.data());
      EXPECT_NE(token, 999) << seed;
      last += token == 998;
    }
    const float certain[2] = {0, -1e30f};
    EXPECT_EQ(draw_token(certain, 2, {}, u, scratch.data()), 0);
  }
  EXPECT_GT(last, 0);
}

TEST(CheckSampling, NamesTheOptionThatIsOutside) {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  const auto says = [](const SamplingOptions& options) {
    return kiln::testing::error_message(ExitCode::usage, [&] { check_sampling(options); });
  };
  for (const double wrong : {nan, infinity, -infinity, -0.1, 100.1}) {
    EXPECT_NE(says({.temperature = wrong}).find("--temperature"), std::string::npos) << wrong;
  }
  for (const double wrong : {nan, infinity, -1e-9, 1.1}) {
    EXPECT_NE(says({.top_p = wrong}).find("--top-p"), std::string::npos) << wrong;
  }
  EXPECT_NE(says({.top_k = -1}).find("--top-k"), std::string::npos);
  EXPECT_NO_THROW(check_sampling({.temperature = 0, .top_k = 0, .top_p = 0}));
  EXPECT_NO_THROW(check_sampling({.temperature = 100, .top_k = 50000, .top_p = 1}));
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
