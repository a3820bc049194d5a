#include "src/train/line_log.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "src/core/file.h"
#include "tests/core/temporary_folder.h"

namespace kiln::train {
namespace {

// No file of this process may grow beyond `bytes` while this lives: the disk is full.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit small = {bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
  }
  ~FullDisk() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int) = nullptr;
};

std::string line(int i) {
  return fmt::format("line {:06}", i);  // with its newline 12 bytes
}
std::string lines(int begin, int end) {
  std::string text;
  for (int i = begin; i < end; i++) text += line(i) + "\n";
  return text;
}

TEST(LineLog, AppendsWholeLines) {
  const testing::TemporaryFolder folder;
  for (int part = 0; part < 2; part++) {
    LineLog log(folder / "log");
    for (int i = 0; i < 3; i++) log.write(line(3 * part + i));
  }
  EXPECT_EQ(read_file(folder / "log"), lines(0, 6));
}

TEST(LineLog, LinesWaitWhileTheDiskIsFull) {
  const testing::TemporaryFolder folder;
  LineLog log(folder / "log");
  {
    const FullDisk full(30);  // in the middle of the third line
    for (int i = 0; i < 100; i++) log.write(line(i));
  }
  log.write(line(100));
  EXPECT_EQ(read_file(folder / "log"), lines(0, 101));
  EXPECT_EQ(log.dropped(), 0);
}

// A disk that stays full for longer than lines can wait costs lines, but the log recovers.
TEST(LineLog, RecoversAfterMoreThanCanWait) {
  constexpr int kFit = LineLog::kMostWaiting / 12;
  const testing::TemporaryFolder folder;
  LineLog log(folder / "log");
  {
    const FullDisk full(0);
    for (int i = 0; i < kFit + 50; i++) log.write(line(i));
    EXPECT_EQ(log.dropped(), 50);
  }
  log.write(line(kFit + 50));
  EXPECT_EQ(read_file(folder / "log"), lines(0, kFit) + lines(kFit + 50, kFit + 51));
}

}  // namespace
}  // namespace kiln::train
