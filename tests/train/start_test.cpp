#include "src/train/start.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "src/config/schema.h"
#include "src/core/error.h"
#include "src/core/file.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;

class StartTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) / fmt::format("start_{}", getpid());
    fs::remove_all(folder_);
    config_ = config::defaults();
    config_.output.dir = (folder_ / "run").string();
  }
  void TearDown() override { fs::remove_all(folder_); }

  void put(const char* name) {
    fs::create_directories(config_.output.dir);
    std::ofstream(fs::path(config_.output.dir) / name) << "mine";
  }

  void refused(StartMode mode, ExitCode code, const std::string& words) {
    try {
      prepare_start(config_, mode, "data");
      FAIL() << "accepted";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), code);
      EXPECT_NE(std::string(e.what()).find(words), std::string::npos) << e.what();
      EXPECT_NE(e.hint().find("output.dir"), std::string::npos) << e.hint();
    }
  }

  config::Config config_;
  fs::path folder_;
};

TEST_F(StartTest, AnEmptyOrNewFolderIsTaken) {
  EXPECT_FALSE(prepare_start(config_, StartMode::fresh, "data").occupied);
  EXPECT_FALSE(prepare_start(config_, StartMode::fresh, "data").occupied) << "the lock is nobody's run";
  EXPECT_FALSE(prepare_start(config_, StartMode::resume, "data").checkpoint.has_value());
}

TEST_F(StartTest, AFolderThatHoldsAnythingIsNot) {
  put("config.json");
  refused(StartMode::fresh, ExitCode::usage, "is not empty");
  put("main.log");
  refused(StartMode::fresh, ExitCode::usage, "already holds a run");
  EXPECT_TRUE(prepare_start(config_, StartMode::overwrite, "data").occupied);
}

TEST_F(StartTest, OneProcessAtATime) {
  const Start first = prepare_start(config_, StartMode::fresh, "data");
  for (const StartMode mode : {StartMode::fresh, StartMode::resume, StartMode::overwrite}) {
    refused(mode, ExitCode::usage, fmt::format("process {} is training in", getpid()));
  }
}

TEST_F(StartTest, MovingAsideKeepsEverythingAndTheLock) {
  put("main.log");
  fs::create_directories(config_.output.dir + ".1");
  Start start = prepare_start(config_, StartMode::overwrite, "data");
  move_aside(config_.output.dir, start.lock);
  EXPECT_EQ(read_file(config_.output.dir + ".2/main.log"), "mine");
  EXPECT_TRUE(fs::is_directory(config_.output.dir));
  refused(StartMode::fresh, ExitCode::usage, "is training in");
}

TEST_F(StartTest, AFolderThatCannotBeMadeIsNamed) {
  config_.output.dir = "/proc/nowhere/run";
  refused(StartMode::fresh, ExitCode::data, "/proc/nowhere/run");
}

}  // namespace
}  // namespace kiln::train
