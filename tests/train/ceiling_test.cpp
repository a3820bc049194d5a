#include "src/train/ceiling.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "src/train/startup.h"

namespace kiln::train {
namespace {

TEST(Ceiling, IsRaisedByWorkThatBeatsIt) {
  std::vector<std::string> told;
  Ceiling ceiling(100, [&](const std::string& text) { told.push_back(text); });
  EXPECT_DOUBLE_EQ(ceiling.share(50e9, 1), 0.5);
  EXPECT_DOUBLE_EQ(ceiling.share(100e9, 1), 1);
  EXPECT_TRUE(told.empty());
  EXPECT_DOUBLE_EQ(ceiling.share(125e9, 1), 1) << "never above 100 %";
  EXPECT_DOUBLE_EQ(ceiling.gflops(), 125);
  ASSERT_EQ(told.size(), 1u) << "and never silently";
  EXPECT_NE(told[0].find("125 Gflop/s, faster than the 100"), std::string::npos) << told[0];
  EXPECT_DOUBLE_EQ(ceiling.share(50e9, 1), 0.4);
  ceiling.share(130e9, 1);
  EXPECT_EQ(told.size(), 1u) << "4 percent more are not worth a line";
  ceiling.share(140e9, 1);
  EXPECT_EQ(told.size(), 2u);
  EXPECT_DOUBLE_EQ(ceiling.share(70e9, 1), 0.5);
}

TEST(Ceiling, AMeasurementIsPositiveAndOfTheShapeThatIsTold) {
  Context context;
  context.device = cpu_device(2);
  ThreadPool pool(2);
  context.pool = &pool;
  EXPECT_GT(measure_ceiling(context), 0);
}

TEST(ThreadWarning, OnlyForMoreThreadsThanProcessors) {
  EXPECT_EQ(thread_warning(0, 4), "");
  EXPECT_EQ(thread_warning(4, 4), "");
  const std::string warning = thread_warning(5, 4);
  EXPECT_NE(warning.find("device.threads = 5"), std::string::npos);
  EXPECT_NE(warning.find("4 processors"), std::string::npos);
  EXPECT_NE(thread_warning(2, 1).find("1 processor:"), std::string::npos);
}

}  // namespace
}  // namespace kiln::train
