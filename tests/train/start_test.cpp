#include "src/train/start.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "src/config/load.h"
#include "src/config/schema.h"
#include "src/core/error.h"
#include "src/core/file.h"
#include "tests/core/temporary_folder.h"
#include "tests/optim/support.h"

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

// More values than train.skip_window were never written: damage, and no broken promise of the program.
TEST_F(StartTest, AGuardWindowThatIsTooLongIsDamage) {
  config_.train.skip_loss_z = 3;
  config_.train.skip_window = 4;
  ParameterTable table;
  table.add("w.bias", {5}, ParameterKind::bias);
  const optim::AdamWOptions adamw{.lr = 1e-3, .b1 = 0.9, .b2 = 0.95, .eps = 1e-8, .wd = 0.1};
  tests::BoundRun machine(std::move(table), adamw);
  const auto start = [&](int64_t step, std::vector<double> losses, std::vector<double> norms) {
    save_checkpoint(config_.output.dir,
                    {.step = step,
                     .data = "data",
                     .config_json = config::to_json(config_),
                     .losses = std::move(losses),
                     .gradient_norms = std::move(norms)},
                    machine.table, machine.optimizers);
    return prepare_start(config_, StartMode::resume, "data").state;
  };
  EXPECT_EQ(start(1, {1, 2, 3, 4}, {}).losses.size(), 4u);
  for (const bool of_loss : {true, false}) {
    const std::vector<double> five(5, 1.0), one(1, 1.0), none;
    const std::string message = kiln::testing::error_message(
        ExitCode::data, [&] { start(of_loss ? 2 : 3, of_loss ? five : none, of_loss ? none : one); });
    EXPECT_NE(message.find(of_loss ? "5 losses" : "1 gradient norms"), std::string::npos) << message;
    EXPECT_NE(message.find("is damaged"), std::string::npos) << message;
  }
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
