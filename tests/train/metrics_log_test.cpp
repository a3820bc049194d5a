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
  EXPECT_EQ(read(step(3, 5, 1) + step(4, 4, 1)).missing_steps, 2)
      << "a run logs every step from the first on";
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

TEST_F(ReadMetricsLog, GapsAreRangesOfWhatTheRunHasTaken) {
  using Ranges = std::vector<std::pair<int64_t, int64_t>>;
  const MetricsLog log = read(step(2, 5, 1) + step(3, 5, 1) + step(7, 5, 1));
  EXPECT_EQ(gaps_up_to(log, 7), (Ranges{{1, 1}, {4, 6}}));
  EXPECT_EQ(gaps_up_to(log, 9), (Ranges{{1, 1}, {4, 6}, {8, 9}}));
  EXPECT_EQ(gaps_up_to(log, 5), (Ranges{{1, 1}, {4, 5}}));
  EXPECT_EQ(gaps_up_to(log, 3), (Ranges{{1, 1}}));
  EXPECT_TRUE(gaps_up_to(MetricsLog(), 0).empty());
  EXPECT_EQ(log.missing_steps, 4);
}

// Whatever optimizer, over the very steps that count: those of before a rewind do not, nor does one without a time.
TEST_F(ReadMetricsLog, TheShareOfTheOptimizers) {
  const auto timed = [](int n, double ms, double optimizer_ms) {
    return fmt::format("{{\"loss\":5,\"ms\":{},\"optimizer_ms\":{},\"step\":{},\"tokens\":{}}}\n", ms,
                       optimizer_ms, n, n * 100);
  };
  EXPECT_DOUBLE_EQ(optimizer_share(read(timed(1, 100, 20) + timed(2, 300, 40) + step(3, 5, 1000))),
                   60.0 / 400);
  EXPECT_DOUBLE_EQ(
      optimizer_share(read(timed(1, 100, 20) + timed(2, 300, 299) + timed(3, 300, 299) + timed(2, 100, 10))),
      30.0 / 200);
  const std::string report = "{\"metric\":\"kl-shampoo.8x8.update_ms\",\"step\":1,\"value\":90}\n";
  EXPECT_DOUBLE_EQ(optimizer_share(read(report + timed(1, 100, 20))), 0.2) << "a report is no part of it";
  EXPECT_TRUE(std::isnan(optimizer_share(read(step(1, 5, 100)))));
}

TEST_F(ReadMetricsLog, WhatTheRunSaidWhenItBegan) {
  const std::string begun = "{\"ceiling_gflops\":90.5,\"run_steps\":12,\"step\":0}\n";
  EXPECT_EQ(read(begun + step(1, 5, 1)).run_steps, 12);
  EXPECT_EQ(read(step(1, 5, 1) + "{\"run_steps\":9,\"step\":1}\n" + step(2, 5, 1)).run_steps, 9);
  EXPECT_EQ(read(step(1, 5, 1)).run_steps, 0);
  for (const char* wrong : {"0", "-1", "1.5", "100000001", "null", "18446744073709551615"}) {
    const MetricsLog log = read(fmt::format("{{\"run_steps\":{},\"step\":0}}\n", wrong));
    EXPECT_EQ(log.run_steps, 0) << wrong;
    EXPECT_EQ(log.broken_lines, 1) << wrong;
  }
  config::Config config;
  EXPECT_EQ(whole_run(config, 12), 12) << "train.epochs decides";
  config.train.steps = 7;
  EXPECT_EQ(whole_run(config, 12), 7);
  EXPECT_EQ(whole_run({}, 12), 12);
}

// The file comes from outside. None of these numbers may be computed with; what is sound around them counts.
TEST_F(ReadMetricsLog, NumbersThatNoRunCanHaveAreBrokenLines) {
  const auto line = [](const std::string& steps, const std::string& tokens) {
    return fmt::format("{{\"loss\":1,\"ms\":1,\"step\":{},\"tokens\":{}}}\n", steps, tokens);
  };
  for (const std::string& wrong :
       {line("0", "5"), line("-1", "5"), line("-9223372036854775808", "5"), line("100000001", "5"),
        line("9223372036854775807", "5"), line("18446744073709551615", "5"), line("2.0", "5"),
        line("\"2\"", "5"), line("2", "-1"), line("2", "1e30"), line("2", "9223372036854775808"),
        line("2", "null"), line("2", "50"), std::string("{\"loss\":1,\"step\":2}\n"),
        std::string("{\"step\":0,\"validation_loss\":1}\n"),
        std::string("{\"step\":-3,\"validation_loss\":1}\n"),
        std::string("{\"sample\":\"\",\"step\":1e9}\n")}) {
    const MetricsLog log = read(step(1, 5, 100) + wrong + step(2, 4, 100));
    EXPECT_EQ(log.broken_lines, 1) << wrong;
    EXPECT_EQ(log.first_broken_line, 2) << wrong;
    ASSERT_EQ(log.steps.size(), 2u) << wrong;
    EXPECT_EQ(log.steps[1].loss, 4) << wrong;
    EXPECT_EQ(log.missing_steps, 0) << wrong;
    EXPECT_TRUE(log.validations.empty()) << wrong;
    EXPECT_EQ(step_of_metrics_line(wrong.substr(0, wrong.size() - 1)).has_value(), wrong == line("2", "50"))
        << "tokens that fall are wrong only beside others: " << wrong;
  }
  const MetricsLog largest = read(step(1, 5, 100) + line("100000000", "9223372036854775807"));
  EXPECT_EQ(largest.broken_lines, 0);
  EXPECT_EQ(largest.missing_steps, 99999998);
  const MetricsLog order = read(step(5, 5, 100) + "{\"step\":4,\"validation_loss\":1}\n");
  EXPECT_EQ(order.broken_lines, 1) << "a validation follows its step";
  for (const char* ms : {"-5", "1e300", "null", "\"1\""}) {
    const MetricsLog log =
        read(step(1, 5, 100) + fmt::format("{{\"loss\":1,\"ms\":{},\"step\":2,\"tokens\":200}}\n", ms));
    EXPECT_TRUE(std::isnan(log.steps[1].ms)) << ms;
    EXPECT_DOUBLE_EQ(log.steps[1].seconds, 0.1) << ms;
  }
}

TEST_F(ReadMetricsLog, TheShareOfUpdatesAsEachStepLoggedIt) {
  const auto timed = [](int n, double ms, double update) {
    return fmt::format("{{\"loss\":1,\"ms\":{},\"optimizer_ms\":{},\"step\":{},\"tokens\":1}}\n", ms, update,
                       n);
  };
  // A report in step 2 took 400 of its 500 ms, which are neither the model's nor the optimizer's.
  const MetricsLog log =
      read(timed(1, 100, 10) + "{\"metric\":\"k.8x8.tail_report_seconds\",\"step\":2,\"value\":0.4}\n" +
           "{\"metric\":\"k.8x8.update_ms\",\"step\":2,\"value\":77}\n" + timed(2, 500, 420));
  EXPECT_DOUBLE_EQ(optimizer_share(log), 30.0 / 200);
  EXPECT_DOUBLE_EQ(log.steps[1].optimizer_ms, 420);
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
