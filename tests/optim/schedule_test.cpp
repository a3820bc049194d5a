#include "optim/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "src/core/error.h"

namespace kiln::optim {
namespace {

// All arithmetic is in fp64 on numbers of order 1: a handful of roundings.
constexpr double kRounding = 1e-15;

Schedule make(const std::string& kind, int64_t steps, int64_t warmup, double final,
              double decay_fraction = 0) {
  return {.kind = kind, .steps = steps, .warmup = warmup, .final = final, .decay_fraction = decay_fraction};
}

TEST(Schedule, WarmUpReachesOneWithItsLastUpdate) {
  for (const char* kind : {"cosine", "linear", "wsd", "constant"}) {
    const Schedule s = make(kind, 100, 4, 0.1, 0.2);
    EXPECT_NEAR(multiplier(s, 0), 0.25, kRounding) << kind;
    EXPECT_NEAR(multiplier(s, 1), 0.5, kRounding) << kind;
    EXPECT_NEAR(multiplier(s, 3), 1.0, kRounding) << kind;
    EXPECT_NEAR(multiplier(s, 4), 1.0, kRounding) << kind;
  }
}

TEST(Schedule, CosineByHand) {
  const Schedule s = make("cosine", 110, 10, 0.1);
  EXPECT_NEAR(multiplier(s, 10), 1.0, kRounding);
  EXPECT_NEAR(multiplier(s, 35), 0.1 + 0.45 * (1 + std::sqrt(0.5)), kRounding);  // a quarter: cos(pi/4)
  EXPECT_NEAR(multiplier(s, 60), 0.55, kRounding);                               // halfway
  EXPECT_NEAR(multiplier(s, 85), 0.1 + 0.45 * (1 - std::sqrt(0.5)), kRounding);
  EXPECT_NEAR(multiplier(s, 110), 0.1, kRounding);
}

TEST(Schedule, LinearByHand) {
  const Schedule s = make("linear", 110, 10, 0.2);
  EXPECT_NEAR(multiplier(s, 10), 1.0, kRounding);
  EXPECT_NEAR(multiplier(s, 35), 0.8, kRounding);
  EXPECT_NEAR(multiplier(s, 60), 0.6, kRounding);
  EXPECT_NEAR(multiplier(s, 109), 0.208, kRounding);
  EXPECT_NEAR(multiplier(s, 110), 0.2, kRounding);
}

TEST(Schedule, WarmupStableDecayByHand) {
  const Schedule s = make("wsd", 100, 10, 0.1, 0.25);  // falls from update 75 on
  EXPECT_NEAR(multiplier(s, 10), 1.0, kRounding);
  EXPECT_NEAR(multiplier(s, 74), 1.0, kRounding);
  EXPECT_NEAR(multiplier(s, 75), 1.0, kRounding);
  EXPECT_NEAR(multiplier(s, 76), 1.0 - 0.9 * 0.2, kRounding);  // sqrt(1/25)
  EXPECT_NEAR(multiplier(s, 79), 1.0 - 0.9 * 0.4, kRounding);  // sqrt(4/25)
  EXPECT_NEAR(multiplier(s, 91), 1.0 - 0.9 * 0.8, kRounding);  // sqrt(16/25)
  EXPECT_NEAR(multiplier(s, 100), 0.1, kRounding);
  // A decay longer than what the warm-up leaves begins after it; none at all is a constant up to the end.
  EXPECT_NEAR(multiplier(make("wsd", 100, 75, 0.1, 1.0), 79), 1.0 - 0.9 * 0.4, kRounding);
  EXPECT_NEAR(multiplier(make("wsd", 100, 10, 0.1, 0.0), 99), 1.0, kRounding);
}

TEST(Schedule, ConstantStaysConstant) {
  const Schedule s = make("constant", 100, 0, 0.1);
  for (const int64_t step : {0, 50, 99, 100, 1000}) EXPECT_EQ(multiplier(s, step), 1.0);
}

TEST(Schedule, RisesDuringWarmUpOnlyThenFallsToTheFinalValueAndStays) {
  for (const char* kind : {"cosine", "linear", "wsd", "constant"}) {
    for (const int64_t steps : {1, 2, 7, 100, 1000}) {
      for (const int64_t warmup : {int64_t{0}, int64_t{1}, steps / 3, steps - 1, steps}) {
        for (const double final : {0.0, 0.1, 1.0}) {
          SCOPED_TRACE(fmt::format("{} steps {} warmup {} final {}", kind, steps, warmup, final));
          const Schedule s = make(kind, steps, warmup, final, 0.3);
          for (int64_t step = 0; step < 2 * steps + 5; step++) {
            const double now = multiplier(s, step), next = multiplier(s, step + 1);
            EXPECT_TRUE(now >= 0 && now <= 1) << "step " << step << ": " << now;
            if (step + 1 < warmup) {
              EXPECT_LT(now, next) << "step " << step;
            } else {
              EXPECT_GE(now, next) << "step " << step;
            }
            if (step >= steps) {
              EXPECT_EQ(now, s.kind == "constant" ? 1.0 : final) << "step " << step;
            }
          }
          EXPECT_NEAR(multiplier(s, std::max<int64_t>(warmup, 1) - 1), 1.0, kRounding);
        }
      }
    }
  }
}

TEST(Schedule, UnknownKindsAreRefused) {
  try {
    multiplier(make("cosinus", 10, 0, 0), 0);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::usage);
    EXPECT_STREQ(e.what(), "unknown schedule \"cosinus\"");
    EXPECT_EQ(e.hint(), "one of cosine, linear, wsd, constant");
  }
}

}  // namespace
}  // namespace kiln::optim
