#include "src/train/run_folder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "src/config/load.h"
#include "src/core/error.h"
#include "src/core/file.h"
#include "src/train/metrics_log.h"
#include "tests/paths.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;

class RunFolderTest : public ::testing::Test {
 protected:
  RunFolderTest() {
    folder_ = fs::temp_directory_path() / ("kiln-run-folder-" + std::to_string(::getpid()));
    fs::remove_all(folder_);
    config_ =
        config::load(paths::source() + "/configs/gpt2-mini/adamw.json", {"output.dir=" + folder_.string()});
  }
  ~RunFolderTest() override { fs::remove_all(folder_); }

  static StepMetrics metrics(int64_t step, double loss) {
    return {.step = step,
            .tokens = step * 10,
            .loss = loss,
            .lr = 1e-3,
            .gradient_norm = 0.5,
            .skipped = false,
            .ms = 1,
            .tokens_per_second = 2,
            .mfu = 0.3};
  }
  std::string read(const char* name) { return read_file(folder_ / name); }

  fs::path folder_;
  config::Config config_;
};

TEST_F(RunFolderTest, LossesSurviveTheLogBitForBit) {
  const double loss = 0.1 + 0.2;
  {
    RunFolder folder(config_, RunFolder::Mode::fresh, 0);
    folder.record_step(metrics(1, loss));
  }
  EXPECT_EQ(nlohmann::json::parse(read("metrics.jsonl"))["loss"].get<double>(), loss);
  EXPECT_EQ(read("main.log"), "s:1 trl:0.3000 lr:0.001 norm:0.5000\n");
}

TEST_F(RunFolderTest, ResumingDropsWhatCameAfterTheCheckpointAndLinesCutInHalf) {
  {
    RunFolder folder(config_, RunFolder::Mode::fresh, 0);
    for (int step = 1; step <= 4; step++) folder.record_step(metrics(step, step));
    folder.record_validation(4, 2.5, 5.0);
  }
  std::ofstream(folder_ / "metrics.jsonl", std::ios::app) << "{\"step\":2,\"lo";
  std::ofstream(folder_ / "main.log", std::ios::app) << "s:2 tr";
  { RunFolder folder(config_, RunFolder::Mode::resume, 2); }
  const std::string log = read("metrics.jsonl");
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 2);
  EXPECT_NE(log.find("\"step\":2"), std::string::npos);
  EXPECT_EQ(log.find("\"step\":3"), std::string::npos);
  EXPECT_EQ(read("main.log"), "s:1 trl:1.0000 lr:0.001 norm:0.5000\ns:2 trl:2.0000 lr:0.001 norm:0.5000\n");
}

// Lines can be lost: a disk that was full for long, an edited file.
TEST_F(RunFolderTest, ResumingNamesTheStepsThatTheLogLacks) {
  const auto warning_after = [&](const std::vector<int64_t>& steps, int64_t resume_step) {
    fs::remove_all(folder_);
    {
      RunFolder folder(config_, RunFolder::Mode::fresh, 0);
      for (const int64_t step : steps) {
        folder.record_step(metrics(step, 1));
        folder.record_metric(step, "x", 1);
        folder.record_sample(step, "\"loss\": 1");
      }
      folder.record_validation(9, 2, 5);  // says nothing about step 9
    }
    ::testing::internal::CaptureStderr();
    { RunFolder folder(config_, RunFolder::Mode::resume, resume_step); }
    return ::testing::internal::GetCapturedStderr();
  };
  const auto range = [](const std::string& text) {
    const size_t begin = text.find("steps "), end = text.find(", which");
    return begin == std::string::npos ? text : text.substr(begin, end - begin);
  };
  EXPECT_EQ(warning_after({1, 2, 3, 4}, 4), "");
  EXPECT_EQ(warning_after({1, 2, 3, 4}, 2), "");
  EXPECT_EQ(range(warning_after({1, 2, 4, 5}, 5)), "steps 3");
  EXPECT_EQ(range(warning_after({2, 3, 7}, 9)), "steps 1, 4 to 6, 8 to 9");
  EXPECT_EQ(range(warning_after({}, 7)), "steps 1 to 7");
  EXPECT_EQ(range(warning_after({2, 4, 6, 8, 10, 12, 14, 16}, 16)), "steps 1, 3, 5, 7, 9 and 3 more ranges");
}

// Once, before the first step, however often the run goes on; a run that begins anew says it anew.
TEST_F(RunFolderTest, SaysHowLongTheRunIsOnce) {
  const auto go_on = [&](RunFolder::Mode mode, int64_t step, double ceiling, int64_t run_steps = 12) {
    RunFolder folder(config_, mode, step);
    folder.record_start(run_steps, ceiling);
    folder.record_step(metrics(step + 1, 1));
    folder.record_sample(step + 1, "text");
  };
  go_on(RunFolder::Mode::fresh, 0, 90.5);
  const auto first = nlohmann::json::parse(read("metrics.jsonl").substr(0, read("metrics.jsonl").find('\n')));
  EXPECT_EQ(first, (nlohmann::json{{"step", 0}, {"run_steps", 12}, {"ceiling_gflops", 90.5}}));
  go_on(RunFolder::Mode::resume, 1, 70);
  const auto count = [&](const char* what) {
    int n = 0;
    const std::string log = read("metrics.jsonl");
    for (size_t at = 0; (at = log.find(what, at)) != std::string::npos; at++) n++;
    return n;
  };
  EXPECT_EQ(count("run_steps"), 1);
  EXPECT_EQ(count("90.5"), 1);
  EXPECT_EQ(read_metrics_log(folder_ / "metrics.jsonl").run_steps, 12);
  EXPECT_TRUE(RunFolder(config_, RunFolder::Mode::resume, 2).sample_logged());
  EXPECT_FALSE(RunFolder(config_, RunFolder::Mode::resume, 1).validation_logged());
  go_on(RunFolder::Mode::resume, 2, 90.5, 20);  // made longer
  EXPECT_EQ(read_metrics_log(folder_ / "metrics.jsonl").run_steps, 20);
  EXPECT_EQ(count("run_steps"), 2);
  ::testing::internal::CaptureStderr();
  go_on(RunFolder::Mode::resume, 0, 70);  // killed before its first checkpoint
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(count("run_steps"), 1);
  EXPECT_EQ(count("70"), 1);
  EXPECT_EQ(count("\"loss\""), 1);
  std::ofstream(folder_ / "metrics.jsonl")
      << "{\"loss\":1,\"step\":1,\"tokens\":10}\n";  // of a version that did not
  go_on(RunFolder::Mode::resume, 1, 70);
  EXPECT_EQ(read_metrics_log(folder_ / "metrics.jsonl").run_steps, 12);
}

// What one reader passes over the other drops: lines that no run can have written do not stay.
TEST_F(RunFolderTest, ResumingDropsLinesThatNoRunCanHaveWritten) {
  { RunFolder folder(config_, RunFolder::Mode::fresh, 0); }
  const std::string sound = "{\"loss\":1,\"step\":1,\"tokens\":10}\n";
  std::ofstream(folder_ / "metrics.jsonl") << sound << "{\"loss\":1,\"step\":0,\"tokens\":10}\n"
                                           << "{\"loss\":1,\"step\":2,\"tokens\":-10}\nrubbish\n";
  ::testing::internal::CaptureStderr();
  { RunFolder folder(config_, RunFolder::Mode::resume, 2); }
  EXPECT_NE(::testing::internal::GetCapturedStderr().find("no lines of steps 2,"), std::string::npos);
  EXPECT_EQ(read("metrics.jsonl"), sound);
}

TEST_F(RunFolderTest, WritesWhyAStepWasSkippedAndNothingAboutGuardsThatAreOff) {
  {
    RunFolder folder(config_, RunFolder::Mode::fresh, 0);
    folder.record_step(metrics(1, 1));
    StepMetrics skipped = metrics(2, 9);
    skipped.skipped = true;
    skipped.reason = "loss 8.0 deviations above its mean";
    skipped.loss_deviations = 8;
    folder.record_step(skipped);
  }
  std::ifstream lines(folder_ / "metrics.jsonl");
  std::string first, second;
  std::getline(lines, first);
  std::getline(lines, second);
  const auto a = nlohmann::json::parse(first), b = nlohmann::json::parse(second);
  for (const char* key : {"skipped", "reason", "loss_deviations", "gradient_norm_deviations"})
    EXPECT_FALSE(a.contains(key)) << key;
  EXPECT_EQ(b["skipped"], true);
  EXPECT_EQ(b["reason"], "loss 8.0 deviations above its mean");
  EXPECT_EQ(b["loss_deviations"], 8.0);
  EXPECT_FALSE(b.contains("gradient_norm_deviations"));
}

TEST_F(RunFolderTest, KnowsAnOccupiedFolder) {
  EXPECT_FALSE(RunFolder::occupied(folder_));
  { RunFolder folder(config_, RunFolder::Mode::fresh, 0); }
  EXPECT_TRUE(RunFolder::occupied(folder_));
  EXPECT_THROW(RunFolder(config_, RunFolder::Mode::fresh, 0), Error);
}

TEST_F(RunFolderTest, SamplesThatAreNotUtf8AndLossesThatAreNotFiniteDoNotThrow) {
  {
    RunFolder folder(config_, RunFolder::Mode::fresh, 0);
    folder.record_sample(1, "\xff\xfe broken");
    folder.record_step(metrics(1, std::numeric_limits<double>::quiet_NaN()));
  }
  std::ifstream lines(folder_ / "metrics.jsonl");
  for (std::string line; std::getline(lines, line);)
    EXPECT_FALSE(nlohmann::json::parse(line, nullptr, false).is_discarded());
}

}  // namespace
}  // namespace kiln::train
