#include "src/train/metrics_log.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/core/temporary_folder.h"

namespace kiln::train {
namespace {

using kiln::testing::error_message;
using kiln::testing::TemporaryFolder;

class ReadMetricsLog : public ::testing::Test {
 protected:
  MetricsLog read(const std::string& text) { return read_metrics_log(folder_.write("metrics.jsonl", text)); }
  static std::string step(int n, double loss, double ms) {
    return fmt::format(
        "{{\"gradient_norm\":1.5,\"loss\":{},\"lr\":0.1,\"mfu\":0.5,\"ms\":{},\"step\":{},\"tokens\":{}}}\n",
        loss, ms, n, 100 * n);
  }
  TemporaryFolder folder_;
};

TEST_F(ReadMetricsLog, StepsValidationsAndTheirTime) {
  const MetricsLog log = read(step(1, 5, 1000) + step(2, 4, 500) +
                              "{\"step\":2,\"unigram_entropy\":6.5,\"validation_loss\":4.25}\n" +
                              step(3, 3, 250) + "{\"sample\":\"loss\",\"step\":3}\n");
  ASSERT_EQ(log.steps.size(), 3u);
  EXPECT_EQ(log.steps[2].loss, 3);
  EXPECT_EQ(log.steps[2].tokens, 300);
  EXPECT_EQ(log.steps[2].gradient_norm, 1.5);
  EXPECT_DOUBLE_EQ(log.steps[2].seconds, 1.75);
  ASSERT_EQ(log.validations.size(), 1u);
  EXPECT_EQ(log.validations[0].loss, 4.25);
  EXPECT_EQ(log.validations[0].unigram_entropy, 6.5);
  EXPECT_EQ(log.validations[0].tokens, 200);
  EXPECT_DOUBLE_EQ(log.validations[0].seconds, 1.5);
  EXPECT_EQ(log.broken_lines + log.missing_steps + log.rewound, 0);
  EXPECT_FALSE(log.torn);
  EXPECT_EQ(median_ms(log), 500);
  EXPECT_TRUE(std::isnan(optimizer_share(log)));
}

TEST_F(ReadMetricsLog, ALastLineThatIsCutOffDoesNotCount) {
  // Also when what is there would be JSON: the rest of a number may be missing.
  for (const char* rest : {"{\"step\":2,\"lo", "{\"step\":2,\"loss\":1}"}) {
    const MetricsLog log = read(step(1, 5, 1000) + rest);
    EXPECT_EQ(log.steps.size(), 1u);
    EXPECT_TRUE(log.torn);
    EXPECT_EQ(log.broken_lines, 0);
  }
}

TEST_F(ReadMetricsLog, LinesThatCannotBeReadAreCounted) {
  const MetricsLog log = read(step(1, 5, 1) + "\x01\xff\n" + "[1]\n" + step(2, 4, 1) + "{\"loss\":3}\n");
  EXPECT_EQ(log.steps.size(), 2u);
  EXPECT_EQ(log.broken_lines, 3);
  EXPECT_EQ(log.first_broken_line, 2);
}

TEST_F(ReadMetricsLog, GapsAndRepetitions) {
  EXPECT_EQ(read(step(1, 5, 1) + step(4, 4, 1)).missing_steps, 2);
  EXPECT_EQ(read(step(3, 5, 1) + step(4, 4, 1)).missing_steps, 0) << "a log may begin anywhere";
  const MetricsLog log = read(step(1, 5, 100) + step(2, 4, 100) + "{\"step\":2,\"validation_loss\":9}\n" +
                              step(3, 3, 100) + step(2, 2, 50) + "{\"step\":2,\"validation_loss\":8}\n");
  ASSERT_EQ(log.steps.size(), 2u);
  EXPECT_EQ(log.steps[1].loss, 2);
  EXPECT_DOUBLE_EQ(log.steps[1].seconds, 0.15);
  EXPECT_EQ(log.rewound, 1);
  EXPECT_EQ(log.missing_steps, 0);
  ASSERT_EQ(log.validations.size(), 1u);
  EXPECT_EQ(log.validations[0].loss, 8);
}

TEST_F(ReadMetricsLog, WhatIsNotFinite) {
  const MetricsLog log = read(
      "{\"loss\":null,\"ms\":10,\"skipped\":true,\"step\":1,\"tokens\":5}\n"
      "{\"step\":1,\"validation_loss\":null}\n{\"step\":2,\"validation_loss\":3}\n"
      "{\"step\":3,\"validation_loss\":3}\n");
  EXPECT_TRUE(std::isnan(log.steps[0].loss));
  EXPECT_TRUE(log.steps[0].skipped);
  EXPECT_TRUE(std::isnan(log.validations[0].loss));
  ASSERT_NE(best_validation(log), nullptr);
  EXPECT_EQ(best_validation(log)->step, 2);
  EXPECT_EQ(best_validation(read(step(1, 5, 1))), nullptr);
}

// Reports come before the line of their step and cover what came since the one before: here steps 1 to 2, 3 to 4.
TEST_F(ReadMetricsLog, TheShareOfTheOptimizers) {
  const auto report = [](int n, double ms) {
    return fmt::format("{{\"metric\":\"muon.8x8.update_ms\",\"step\":{},\"value\":{}}}\n", n, ms) +
           fmt::format("{{\"metric\":\"h.0.update_rms\",\"step\":{},\"value\":1000}}\n", n);
  };
  const MetricsLog log = read(step(1, 5, 100) + report(2, 20) + step(2, 5, 100) + step(3, 5, 100) +
                              report(4, 30) + step(4, 5, 100) + step(5, 5, 10000));
  EXPECT_DOUBLE_EQ(optimizer_share(log), 50.0 / 400);
}

// Lines that are longer than the pieces in which files are read.
TEST_F(ReadMetricsLog, LongLines) {
  std::string text;
  for (int i = 1; i <= 3; i++)
    text += step(i, i, 1) + "{\"sample\":\"" + std::string(100'000, 'x') +
            "\",\"step\":" + std::to_string(i) + "}\n";
  const MetricsLog log = read(text);
  EXPECT_EQ(log.steps.size(), 3u);
  EXPECT_EQ(log.broken_lines, 0);
}

TEST_F(ReadMetricsLog, NoFileIsAnError) {
  const std::string message =
      error_message(ExitCode::data, [&] { read_metrics_log(folder_ / "nothing.jsonl"); });
  EXPECT_NE(message.find("nothing.jsonl"), std::string::npos);
}

}  // namespace
}  // namespace kiln::train
