#include "src/device/device.h"

#include <gtest/gtest.h>
#include <sched.h>

#include "src/core/error.h"

namespace kiln {
namespace {

TEST(Device, AutoTakesTheBestInstructionSetAndAllProcessors) {
  const Device device = cpu_device();
  EXPECT_EQ(device.kind, DeviceKind::cpu);
  EXPECT_EQ(device.isa, best_isa());
  cpu_set_t set;
  ASSERT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  EXPECT_EQ(device.threads, CPU_COUNT(&set));
  EXPECT_FALSE(device.name.empty());
  EXPECT_GT(device.memory_bytes, int64_t{64} << 20);
}

TEST(Device, TakesAsManyThreadsAsAsked) {
  EXPECT_EQ(cpu_device(1).threads, 1);
  EXPECT_EQ(cpu_device(7).threads, 7);
}

TEST(Device, TakesEveryInstructionSetUpToTheBest) {
  for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (isa <= best_isa()) {
      EXPECT_EQ(cpu_device(1, name_of(isa)).isa, isa);
      continue;
    }
    try {
      cpu_device(1, name_of(isa));
      ADD_FAILURE() << "accepted " << name_of(isa);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::device);
      EXPECT_NE(std::string(error.what()).find(name_of(isa)), std::string::npos) << error.what();
    }
  }
}

TEST(Device, RefusesAnUnknownInstructionSetAndNamesTheChoices) {
  for (const char* isa : {"", "AVX2", "sse", "neon"}) {
    try {
      cpu_device(1, isa);
      ADD_FAILURE() << "accepted \"" << isa << "\"";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::device);
      EXPECT_NE(std::string(error.what()).find('"' + std::string(isa) + '"'), std::string::npos)
          << error.what();
      EXPECT_NE(error.hint().find("avx512"), std::string::npos) << error.hint();
    }
  }
}

TEST(Device, KindsAndInstructionSetsHaveNames) {
  EXPECT_EQ(name_of(DeviceKind::cpu), "cpu");
  EXPECT_EQ(name_of(DeviceKind::cuda), "cuda");
  EXPECT_EQ(name_of(Isa::baseline), "baseline");
  EXPECT_EQ(name_of(Isa::avx2), "avx2");
  EXPECT_EQ(name_of(Isa::avx512), "avx512");
}

}  // namespace
}  // namespace kiln
