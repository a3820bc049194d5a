// Outliers: when a value is one, what the window makes of it, and that its state is all there is.
#include "src/train/guards.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "src/core/random.h"

namespace kiln::train {
namespace {

constexpr int64_t kWindow = 32;

// Normal numbers of mean 3 and deviation 0.1.
double value(int64_t i) {
  static const Random random(7, hash_name("guards"));
  return 3 + 0.1 * random.normal(static_cast<uint64_t>(i));
}

OutlierWindow filled(double z) {
  OutlierWindow window(z, kWindow);
  for (int64_t i = 0; i < kWindow; i++) EXPECT_FALSE(window.add(value(i)));
  return window;
}

TEST(Guards, NothingIsJudgedBeforeTheWindowHasFilled) {
  OutlierWindow window(2, kWindow);
  for (int64_t i = 0; i < kWindow; i++) {
    EXPECT_TRUE(std::isnan(window.deviations(1e9)));
    EXPECT_FALSE(window.add(std::nan("")));
    EXPECT_FALSE(window.add(i % 2 == 0 ? 1e9 : -1e9));
  }
  EXPECT_EQ(window.values().size(), static_cast<size_t>(kWindow)) << "what is not finite never enters";
  EXPECT_TRUE(window.add(std::nan("")));
  EXPECT_TRUE(window.add(std::numeric_limits<double>::infinity()));
}

// By a mean and a deviation that are computed here, in long double.
TEST(Guards, JudgesByMeanAndDeviationOfTheLastValues) {
  OutlierWindow window = filled(4);
  std::vector<long double> last;
  for (int64_t i = 0; i < kWindow; i++) last.push_back(value(i));
  for (int64_t i = kWindow; i < 10 * kWindow; i++) {
    long double mean = 0, squares = 0;
    for (const long double x : last) mean += x / kWindow;
    for (const long double x : last) squares += (x - mean) * (x - mean) / kWindow;
    const auto deviation = std::sqrt(static_cast<double>(squares));
    const bool spike = i % 50 == 0;
    const double x = spike ? 3 + 0.1 * static_cast<double>(i % 7 + 5) : value(i);
    const double z = static_cast<double>((x - mean)) / deviation;
    // Sums of 32 numbers near 3 round to 32 x 2^-53 x 3 or so, a thousandth of 1e-9 of the deviation.
    EXPECT_NEAR(window.deviations(x), z, 1e-9 * std::abs(z) + 1e-9);
    EXPECT_EQ(window.add(x), z > 4) << "value " << i << ", " << z << " deviations";
    last.erase(last.begin());
    last.push_back(z > 4 ? mean + 4 * deviation : static_cast<long double>(x));
    EXPECT_NEAR(window.values().back(), static_cast<double>(last.back()), 1e-12);
  }
}

TEST(Guards, ALowValueIsNoOutlierAndZeroDeviationsSwitchOff) {
  EXPECT_FALSE(filled(3).add(-1e6));
  OutlierWindow off(0, kWindow);
  for (int64_t i = 0; i < 3 * kWindow; i++) EXPECT_FALSE(off.add(i == 80 ? 1e9 : value(i)));
  EXPECT_TRUE(off.values().empty());
  EXPECT_TRUE(std::isnan(off.deviations(1e9)));
}

// Their deviation counts as a ten-thousandth of their mean: rounding is no outlier, a spike is one, enters as the bound,
// and neither blinds the window to the next one nor keeps a lasting change out for ever.
TEST(Guards, EqualValues) {
  for (const double level : {2.0, 0.0}) {
    OutlierWindow window(5, kWindow);
    for (int64_t i = 0; i < kWindow; i++) window.add(level);
    const double deviation = level == 0 ? 1e-12 : 1e-4 * level;
    EXPECT_NEAR(window.deviations(level + 3 * deviation), 3, 1e-9);
    EXPECT_FALSE(window.add(level + 4 * deviation));
    for (int spike = 0; spike < 3; spike++) {
      EXPECT_TRUE(window.add(100)) << level;
      EXPECT_LT(window.values().back(), level + 10 * deviation) << "the bound, not the spike";
    }
    int64_t skipped = 0;
    while (window.add(level + 1)) ASSERT_LT(++skipped, 8 * kWindow) << "level " << level;
  }
}

// A spike widens the window so little that the next one, of the same size, is still one.
TEST(Guards, SpikesAfterEachOtherAreAllSeen) {
  OutlierWindow window = filled(5);
  int seen = 0;
  for (int64_t i = kWindow; i < 3 * kWindow; i++) seen += window.add(i % 8 == 0 ? 100.0 : value(i));
  EXPECT_EQ(seen, 8);
}

// A level that lasts is accepted in the end; the longer, the further off it is.
TEST(Guards, ALastingChangeIsAccepted) {
  int64_t before = 0;
  for (const double level : {5.0, 10.0, 1000.0}) {
    OutlierWindow window = filled(5);
    int64_t skipped = 0;
    while (window.add(level + 0.01 * value(skipped))) {
      skipped++;
      ASSERT_LT(skipped, 4 * kWindow) << "level " << level;
    }
    EXPECT_GT(skipped, before);
    before = skipped;
  }
}

TEST(Guards, ARestoredWindowGoesOnBitForBit) {
  OutlierWindow straight = filled(3);
  for (int64_t i = 0; i < 100; i++) straight.add(value(1000 + i) + (i % 9 == 0 ? 1 : 0));
  OutlierWindow resumed(3, kWindow);
  resumed.restore(straight.values());
  for (int64_t i = 0; i < 100; i++) {
    const double x = value(2000 + i) + (i % 9 == 0 ? 1 : 0);
    EXPECT_EQ(straight.deviations(x), resumed.deviations(x));
    EXPECT_EQ(straight.add(x), resumed.add(x));
    EXPECT_EQ(straight.values(), resumed.values());
  }
}

}  // namespace
}  // namespace kiln::train
