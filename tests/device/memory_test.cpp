// Limits of memory, read from files that a test writes.
#include "src/device/memory.h"

#include <gtest/gtest.h>

#include "src/device/plan.h"
#include "tests/core/temporary_folder.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

class Memory : public ::testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) {
    fs::create_directories((folder_ / path).parent_path());
    folder_.write(path, text);
  }
  MemoryLeft left() const { return memory_left(folder_.path()); }

 private:
  const kiln::testing::TemporaryFolder folder_;
};

TEST_F(Memory, WhatTheSystemDoesNotTellIsNoLimit) {
  EXPECT_EQ(left().bytes, SIZE_MAX);
  write("proc/meminfo", "something else\n");
  write("proc/self/cgroup", "7:memory:/old\n");
  EXPECT_EQ(left().bytes, SIZE_MAX);
}

TEST_F(Memory, OfTheMachineWithItsSwap) {
  write("proc/meminfo",
        "MemTotal:  9000 kB\nMemFree: 5 kB\nMemAvailable:   3000 kB\nSwapTotal: 0 kB\nSwapFree: 72 kB\n");
  EXPECT_EQ(left().bytes, 3072u << 10);
  EXPECT_EQ(left().why, "the machine has 3.00 MiB free");
}

TEST_F(Memory, OfTheControlGroupsUpToTheRoot) {
  write("proc/meminfo", "MemAvailable: 1000000 kB\n");
  write("proc/self/cgroup", "0::/a/b\n");
  write("sys/fs/cgroup/a/b/memory.max", "max\n");
  write("sys/fs/cgroup/a/b/memory.current", "5000\n");
  EXPECT_EQ(left().bytes, size_t{1000000} << 10);
  write("sys/fs/cgroup/a/memory.max", "8388608\n");
  write("sys/fs/cgroup/a/memory.current", "3145728\n");
  EXPECT_EQ(left().bytes, 5u << 20);
  EXPECT_EQ(left().why, "the memory limit of the control group leaves 5.00 MiB");
  write("sys/fs/cgroup/a/memory.stat", "anon 7\ninactive_file 1048576\nactive_file 9\n");
  EXPECT_EQ(left().bytes, 6u << 20) << "cached files are given up";
  write("sys/fs/cgroup/memory.max", "100\n");
  write("sys/fs/cgroup/memory.current", "200\n");
  EXPECT_EQ(left().bytes, 0u);
}

TEST_F(Memory, APlanThatFitsPassesAndOneThatDoesNotSaysWhy) {
  Plan plan;
  plan.add("small", Category::gradients, 4096);
  require_memory(plan.layout(), Device{});
  plan.add("huge", Category::activations, size_t{1} << 60);
  try {
    require_memory(plan.layout(), Device{});
    FAIL() << "2^60 bytes are free";
  } catch (const OutOfMemory& error) {
    EXPECT_NE(std::string(error.what()).find(memory_left().why.substr(0, 12)), std::string::npos)
        << error.what();
    EXPECT_EQ(error.code(), ExitCode::failure);
  }
}

}  // namespace
}  // namespace kiln
