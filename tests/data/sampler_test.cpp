#include "data/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace kiln::data {
namespace {

std::vector<int64_t> epoch_order(Sampler& sampler, int64_t windows, int64_t epoch) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < windows; i++) order.push_back(sampler.window(epoch * windows + i));
  return order;
}

TEST(Sampler, EveryEpochVisitsEveryWindowOnce) {
  for (const int64_t windows : {1, 2, 3, 7, 1000}) {
    Sampler sampler(windows, 1337);
    for (int64_t epoch = 0; epoch < 5; epoch++) {
      auto order = epoch_order(sampler, windows, epoch);
      std::sort(order.begin(), order.end());
      for (int64_t i = 0; i < windows; i++) {
        ASSERT_EQ(order[static_cast<size_t>(i)], i) << windows << " windows, epoch " << epoch;
      }
      EXPECT_EQ(sampler.epoch(epoch * windows), epoch);
      EXPECT_EQ(sampler.epoch(epoch * windows + windows - 1), epoch);
    }
  }
}

// Two of the 1000! orders agree in about one place (Poisson); 20 and more have a chance of 1e-19.
TEST(Sampler, EpochsAndSeedsDiffer) {
  constexpr int64_t kWindows = 1000;
  Sampler sampler(kWindows, 1), other(kWindows, 2);
  const auto first = epoch_order(sampler, kWindows, 0);
  const auto agreements = [&first](const std::vector<int64_t>& order) {
    int64_t count = 0;
    for (size_t i = 0; i < order.size(); i++) count += order[i] == first[i];
    return count;
  };
  EXPECT_LT(agreements(epoch_order(sampler, kWindows, 1)), 20);
  EXPECT_LT(agreements(epoch_order(other, kWindows, 0)), 20);
  std::vector<int64_t> sorted = first;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_LT(agreements(sorted), 20) << "the first epoch is not shuffled";
}

// The state is the number of the sample: any sample can be asked for first, and in any order.
TEST(Sampler, DependsOnSeedAndSampleNumberOnly) {
  constexpr int64_t kWindows = 7;
  Sampler straight(kWindows, 42);
  std::vector<int64_t> sequence;
  for (int64_t i = 0; i < 40; i++) sequence.push_back(straight.window(i));
  for (int64_t start = 0; start < 40; start++) {
    Sampler resumed(kWindows, 42);
    for (int64_t i = start; i < 40; i++) ASSERT_EQ(resumed.window(i), sequence[static_cast<size_t>(i)]);
  }
  Sampler backwards(kWindows, 42);
  for (int64_t i = 39; i >= 0; i--) ASSERT_EQ(backwards.window(i), sequence[static_cast<size_t>(i)]);
}

// The order that a step deals samples in (src/train/step.h): micro-batch by micro-batch, rank after rank. Whatever the
// number of ranks, no two of them have the same sample, and together they have those of one rank, in its order.
TEST(Sampler, RanksShareOneOrder) {
  constexpr int64_t kB = 3, kStepMicroBatches = 24, kSteps = 4;  // 288 samples
  for (const int64_t windows : {288, 1000, 25, 1}) {             // less than an epoch, exactly one, many
    Sampler single(windows, 9);
    std::vector<int64_t> order;
    for (int64_t i = 0; i < kB * kStepMicroBatches * kSteps; i++) order.push_back(single.window(i));
    for (const int64_t ranks : {1, 2, 3, 8}) {
      SCOPED_TRACE(::testing::Message() << windows << " windows, " << ranks << " ranks");
      std::vector<std::vector<int64_t>> samples(static_cast<size_t>(ranks)), drawn(samples.size());
      for (int64_t rank = 0; rank < ranks; rank++) {
        Sampler sampler(windows, 9);  // each rank has its own
        int64_t done = 0;             // position.samples
        for (int64_t step = 0; step < kSteps; step++) {
          for (int64_t micro = 0; micro < kStepMicroBatches / ranks; micro++) {
            const int64_t first = done + (micro * ranks + rank) * kB;
            for (int64_t b = 0; b < kB; b++) {
              samples[static_cast<size_t>(rank)].push_back(first + b);
              drawn[static_cast<size_t>(rank)].push_back(sampler.window(first + b));
            }
          }
          done += kStepMicroBatches * kB;
        }
      }
      std::vector<int64_t> together(order.size(), -1);
      for (size_t rank = 0; rank < samples.size(); rank++) {
        EXPECT_EQ(samples[rank].size(), order.size() / samples.size());
        for (size_t i = 0; i < samples[rank].size(); i++) {
          auto& place = together.at(static_cast<size_t>(samples[rank][i]));
          ASSERT_EQ(place, -1) << "two ranks have sample " << samples[rank][i];
          place = drawn[rank][i];
        }
      }
      EXPECT_EQ(together, order);
      // Within an epoch that is: no two ranks train on the same window.
      if (windows < static_cast<int64_t>(order.size())) continue;
      std::sort(together.begin(), together.end());
      EXPECT_EQ(std::adjacent_find(together.begin(), together.end()), together.end());
    }
  }
}

TEST(Sampler, FarSamplesAndManyWindows) {
  constexpr int64_t kWindows = int64_t{1} << 33;
  Sampler sampler(kWindows, 5);
  for (const int64_t sample : {int64_t{0}, kWindows - 1, kWindows, 3 * kWindows + 17}) {
    EXPECT_GE(sampler.window(sample), 0);
    EXPECT_LT(sampler.window(sample), kWindows);
  }
  EXPECT_EQ(sampler.epoch(3 * kWindows + 17), 3);
}

}  // namespace
}  // namespace kiln::data
