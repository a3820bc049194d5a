#include "src/train/config_difference.h"

#include <gtest/gtest.h>

namespace kiln::train {
namespace {

// A key that the old program did not know is compared with its default.
TEST(ConfigDifference, NamesKeysThatChangeWhatIsComputed) {
  const char* before = R"({"optimizer":{"lr":0.001,"b1":0.9},"train":{"steps":10},"validation":{"every":5}})";
  const char* after =
      R"({"optimizer":{"lr":0.002,"b1":0.9},"train":{"steps":10,"clip":0.5,"strange":7,"max_skipped":20},"validation":{"every":7}})";
  EXPECT_EQ(meaningful_differences(before, after),
            (std::vector<std::string>{"optimizer.lr: 0.001 -> 0.002", "train.clip: 1.0 -> 0.5",
                                      "train.strange: \"(absent)\" -> 7"}));
  EXPECT_EQ(meaningful_differences(after, before),
            (std::vector<std::string>{"optimizer.lr: 0.002 -> 0.001", "train.clip: 0.5 -> (absent)",
                                      "train.max_skipped: 20 -> (absent)", "train.strange: 7 -> (absent)"}));
}

TEST(ConfigDifference, LookingMoreOftenOrElsewhereIsNoDifference) {
  const char* before =
      R"({"validation":{"every":5},"sampling":{"every":0},"checkpoint":{"keep":1},"output":{"dir":"a"},"device":{"threads":1}})";
  const char* after =
      R"({"validation":{"every":6},"sampling":{"every":1},"checkpoint":{"keep":2},"output":{"dir":"b"},"device":{"threads":2}})";
  EXPECT_TRUE(meaningful_differences(before, after).empty());
}

}  // namespace
}  // namespace kiln::train
