#include "src/train/run_folder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "src/config/load.h"
#include "src/core/error.h"
#include "src/core/file.h"
#include "tests/paths.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;

class RunFolderTest : public testing::Test {
 protected:
  RunFolderTest() {
    folder_ = fs::temp_directory_path() / ("kiln-run-folder-" + std::to_string(::getpid()));
    fs::remove_all(folder_);
    config_ = config::load(paths::source() + "/configs/gpt2-mini/adamw.json", {"output.dir=" + folder_.string()});
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
