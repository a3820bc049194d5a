#include "src/train/length.h"

#include <gtest/gtest.h>

#include "src/config/schema.h"

namespace kiln::train {
namespace {

config::Config run_of(const char* schedule, int64_t steps) {
  config::Config config = config::defaults();
  config.train.steps = steps;
  config.schedule.kind = schedule;
  config.schedule.warmup = 4;
  config.schedule.decay_fraction = 0.2;
  config.schedule.final = 0.1;
  return config;
}

TEST(Length, OnlyWhatIsTheSameCanGoOn) {
  EXPECT_EQ(difference_at_start(run_of("constant", 10), run_of("constant", 50), 10), "");
  EXPECT_EQ(difference_at_start(run_of("cosine", 10), run_of("cosine", 10), 10), "");
  // The first update after the warm-up has the full learning rate in both; the one after it has not.
  EXPECT_EQ(difference_at_start(run_of("cosine", 10), run_of("cosine", 50), 5), "");
  EXPECT_EQ(difference_at_start(run_of("cosine", 10), run_of("cosine", 50), 6),
            "the cosine schedule over 50 steps has another learning rate at step 6 than over 10 steps");
  // Update 8 of 0 to 9 is the first in the last fifth; the one that it begins with is still whole.
  EXPECT_EQ(difference_at_start(run_of("wsd", 10), run_of("wsd", 50), 9), "");
  EXPECT_NE(difference_at_start(run_of("wsd", 10), run_of("wsd", 50), 10), "");
}

TEST(Length, OtherSettingsAreNamed) {
  config::Config other = run_of("constant", 50);
  other.train.seed = 2;
  EXPECT_EQ(difference_at_start(run_of("constant", 10), other, 10), "other keys differ: train.seed: 42 -> 2");
  EXPECT_NE(difference_at_start(run_of("constant", 10), run_of("constant", 9), 10), "");
  EXPECT_NE(difference_at_start(run_of("constant", 0), run_of("constant", 9), 1), "")
      << "its epochs are not known";
  // Where a run keeps its checkpoints, and how many, does not count.
  other = run_of("constant", 50);
  other.output.dir = "elsewhere";
  other.checkpoint.every = 3;
  EXPECT_EQ(difference_at_start(run_of("constant", 10), other, 10), "");
}

}  // namespace
}  // namespace kiln::train
