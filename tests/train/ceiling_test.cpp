#include "src/train/ceiling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "src/train/startup.h"

namespace kiln::train {
namespace {

TEST(Ceiling, StaysTheSameAndTellsOnceOfWorkThatBeatsIt) {
  std::vector<std::string> told;
  Ceiling ceiling(100, 0, [&](const std::string& text) { told.push_back(text); });
  EXPECT_FALSE(ceiling.is_begun());
  EXPECT_DOUBLE_EQ(ceiling.share(50e9, 1), 0.5);
  EXPECT_DOUBLE_EQ(ceiling.share(100e9, 1), 1);
  EXPECT_TRUE(told.empty());
  EXPECT_DOUBLE_EQ(ceiling.share(125e9, 1), 1.25);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_NE(told[0].find("125.0 Gflop/s, faster than the 100.0"), std::string::npos) << told[0];
  EXPECT_DOUBLE_EQ(ceiling.share(300e9, 2), 1.5);
  EXPECT_EQ(told.size(), 1u) << "once";
  EXPECT_DOUBLE_EQ(ceiling.share(50e9, 1), 0.5) << "of the same number as before";
  EXPECT_DOUBLE_EQ(ceiling.gflops(), 100);
}

TEST(Ceiling, OfARunThatGoesOnIsWhatItBeganWith) {
  std::vector<std::string> told;
  const auto tell = [&](const std::string& text) { told.push_back(text); };
  EXPECT_DOUBLE_EQ(Ceiling(104, 100, tell).gflops(), 100);
  EXPECT_DOUBLE_EQ(Ceiling(96, 100, tell).gflops(), 100);
  EXPECT_TRUE(told.empty()) << "five percent are noise";
  EXPECT_DOUBLE_EQ(Ceiling(80, 100, tell).share(50e9, 1), 0.5);
  EXPECT_TRUE(Ceiling(120, 100, tell).is_begun());
  ASSERT_EQ(told.size(), 2u);
  EXPECT_NE(told[0].find("80.0 Gflop/s now, at 100.0 when the run began"), std::string::npos) << told[0];
}

// Below: a product that no kernel was written for, timed here on one thread. Above: what no processor does, 10 GHz and
// two fused multiply-adds of 512 bits a cycle on each thread. Units that are off by a thousand, or the time of another
// product, do not fit in between.
TEST(Ceiling, LiesBetweenNaiveLoopsAndWhatNoProcessorDoes) {
  constexpr int kThreads = 2;
  Context context;
  context.device = cpu_device(kThreads);
  ThreadPool pool(kThreads);
  context.pool = &pool;
  const double ceiling = measure_ceiling(context);

  constexpr size_t n = 96;
  const std::vector<float> a(n * n, 0.5f), b(n * n, 0.25f);
  std::vector<float> c(n * n);
  double naive = 0;
  for (int trial = 0; trial < 5; trial++) {
    const auto start = std::chrono::steady_clock::now();
    for (size_t i = 0; i < n; i++) {
      for (size_t j = 0; j < n; j++) {
        float sum = 0;
        for (size_t k = 0; k < n; k++) sum += a[i * n + k] * b[k * n + j];
        c[i * n + j] = sum;
      }
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    naive = std::max(naive, 2e-9 * static_cast<double>(n * n * n) / seconds);
  }
  EXPECT_EQ(c[5], 0.125f * n);
  EXPECT_GT(ceiling, naive);
  EXPECT_LT(ceiling, kThreads * 10.0 * 2 * 2 * 16);
}

TEST(VocabularyWarning, OnlyForOneFarAboveTheTokenizers) {
  config::Config config;
  config.data.tokenizer = "tokenizer.json";
  config.model.vocab = 50257;
  EXPECT_EQ(vocabulary_warning(config, 0), "");
  EXPECT_EQ(vocabulary_warning(config, 50257), "");
  EXPECT_EQ(vocabulary_warning(config, 46000), "");
  const std::string warning = vocabulary_warning(config, 8192);
  EXPECT_NE(warning.find("the other 42065"), std::string::npos) << warning;
  EXPECT_NE(warning.find("--set model.vocab=8192"), std::string::npos) << warning;
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
