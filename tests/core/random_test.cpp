#include "src/core/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace kiln {
namespace {

using Block = std::array<uint32_t, 4>;

// The known-answer vectors of the Random123 distribution (kat_vectors, philox4x32 10). Counter words 0 and 1
// are the index, 2 and 3 the stream; the key is the seed, low word first.
TEST(Random, PhiloxKnownAnswers) {
  EXPECT_EQ(Random(0, 0).block(0), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint64_t ones = ~uint64_t{0};
  EXPECT_EQ(Random(ones, ones).block(ones), (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  // Digits of pi: counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0.
  EXPECT_EQ(Random(0x299f31d0a4093822, 0x0370734413198a2e).block(0x85a308d3243f6a88),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, SeedStreamAndIndexAllMatter) {
  const Block base = Random(1, 2).block(3);
  EXPECT_NE(Random(2, 2).block(3), base);
  EXPECT_NE(Random(1, 3).block(3), base);
  EXPECT_NE(Random(1, 2).block(4), base);
  EXPECT_NE(Random(1, 2).block(3 | uint64_t{1} << 40), base);
  EXPECT_EQ(Random(1, 2).block(3), base);
}

// Moments of n independent draws: a sample mean deviates from its expectation by more than 5 standard errors
// with a chance of 6e-7, and the seed is fixed. The standard error of the mean of x^k is sqrt(var(x^k) / n).
constexpr int kDraws = 200000;

TEST(Random, UniformMoments) {
  const Random random(7, hash_name("uniform"));
  double sum = 0, squares = 0;
  for (uint64_t i = 0; i < kDraws; i++) {
    const double x = random.uniform(i);
    ASSERT_GE(x, 0.0);
    ASSERT_LT(x, 1.0);
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / kDraws, 1.0 / 2, 5 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NEAR(squares / kDraws, 1.0 / 3, 5 * std::sqrt((1.0 / 5 - 1.0 / 9) / kDraws));
}

TEST(Random, NormalMoments) {
  const Random random(7, hash_name("normal"));
  std::array<double, 5> power_sums{};
  double lagged = 0;
  for (uint64_t i = 0; i < kDraws; i++) {
    const double x = random.normal(i);
    ASSERT_TRUE(std::isfinite(x));
    for (int k = 1; k <= 4; k++) power_sums[static_cast<size_t>(k)] += std::pow(x, k);
    lagged += x * random.normal(i + 1);
  }
  // E x^2 = 1, x^4 = 3, x^6 = 15, x^8 = 105
  EXPECT_NEAR(power_sums[1] / kDraws, 0, 5 * std::sqrt(1.0 / kDraws));
  EXPECT_NEAR(power_sums[2] / kDraws, 1, 5 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(power_sums[3] / kDraws, 0, 5 * std::sqrt(15.0 / kDraws));
  EXPECT_NEAR(power_sums[4] / kDraws, 3, 5 * std::sqrt(96.0 / kDraws));
  EXPECT_NEAR(lagged / kDraws, 0, 5 * std::sqrt(1.0 / kDraws));
}

TEST(Permutation, IsABijection) {
  for (const uint64_t n : {1, 2, 3, 4, 5, 7, 15, 16, 17, 63, 64, 65, 255, 257, 1000, 4096, 4097, 65537}) {
    for (const uint64_t seed : {0, 1, 99}) {
      const Permutation permutation(n, seed, 5);
      std::vector<bool> seen(n);
      for (uint64_t i = 0; i < n; i++) {
        const uint64_t image = permutation(i);
        ASSERT_LT(image, n);
        ASSERT_FALSE(seen[image]) << "n " << n << " seed " << seed << " i " << i;
        seen[image] = true;
      }
    }
  }
}

TEST(Permutation, StaysInRangeForHugeN) {
  for (const uint64_t n : {(uint64_t{1} << 40) + 1, (uint64_t{1} << 62) + 12345, ~uint64_t{0}}) {
    const Permutation permutation(n, 3, 4);
    std::vector<uint64_t> images;
    for (uint64_t i = 0; i < 100; i++) {
      images.push_back(permutation(i));
      images.push_back(permutation(n - 1 - i));
    }
    for (const uint64_t image : images) EXPECT_LT(image, n);
    std::sort(images.begin(), images.end());
    EXPECT_EQ(std::adjacent_find(images.begin(), images.end()), images.end());
  }
}

// Every one of the n! orders is about as frequent: chi-square with 5 degrees of freedom over 6000 streams
// exceeds 30.9 with a chance of 1e-5.
TEST(Permutation, AllOrdersOfThreeAreDrawn) {
  std::array<int, 27> orders{};
  constexpr int kStreams = 6000;
  for (uint64_t stream = 0; stream < kStreams; stream++) {
    const Permutation p(3, 11, stream);
    orders[p(0) * 9 + p(1) * 3 + p(2)]++;
  }
  double chi_square = 0;
  for (const int index : {5, 7, 11, 15, 19, 21}) {  // 012 021 102 120 201 210 in base 3
    const double difference = orders[static_cast<size_t>(index)] - kStreams / 6.0;
    chi_square += difference * difference / (kStreams / 6.0);
  }
  EXPECT_LT(chi_square, 30.9);
}

}  // namespace
}  // namespace kiln
