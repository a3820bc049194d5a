// Branches and what ends a thread, against their description in the PTX ISA.
#include <gtest/gtest.h>

#include "tests/cuda_emulator/findings.h"
#include "tests/cuda_emulator/tests/device_array.h"
#include "tests/cuda_emulator/tests/ptx_harness.h"

namespace kiln::emulator::testing {

namespace {

TEST(Control, IndexedBranches) {
  for (const bool uniform : {false, true}) {
    Column index(64);
    for (size_t i = 0; i < 64; ++i) index[i] = (uniform ? i / 32 : i) % 3;
    const std::string branch = uniform ? "brx.idx.uni" : "brx.idx";
    const Column got = run_ptx(branch + R"( %a, targets;
      targets: .branchtargets zero, one, two;
      zero: mov.u32 %d, 100; bra.uni out;
      one: mov.u32 %d, 200; bra.uni out;
      two: mov.u32 %d, 300;
      out:)",
                               "b32", {"u32"}, {index});
    for (size_t i = 0; i < 64; ++i) EXPECT_EQ(got[i], 100 * (index[i] + 1));
  }
}

TEST(Control, LoopsOfDifferentLengthsPerLane) {
  Column count(64);
  for (size_t i = 0; i < 64; ++i) count[i] = i * 7 % 19;
  const Column got = run_ptx(R"(
    .reg .b32 %k; .reg .pred %more;
    mov.u32 %d, 0; mov.u32 %k, 0;
    loop: setp.lt.u32 %more, %k, %a;
    @!%more bra out;
    add.u32 %k, %k, 1; add.u32 %d, %d, %k;
    bra loop;
    out:)",
                             "b32", {"u32"}, {count});
  for (size_t i = 0; i < 64; ++i) EXPECT_EQ(got[i], count[i] * (count[i] + 1) / 2);
}

// Threads that leave keep what they have stored; the others go on.
TEST(Control, Exits) {
  for (const std::string leave : {"ret", "ret.uni", "exit"}) {
    DeviceArray<uint32_t> words(std::vector<uint32_t>(64, 9));
    Column where(64);
    for (size_t i = 0; i < 64; ++i) where[i] = reinterpret_cast<Bits>(words.data() + i);
    run_ptx(".reg .b32 %r; and.b32 %r, %lane, 3; setp.eq.u32 %q, %r, 1; st.global.u32 [%a], 1;\n@%q " +
                leave + ";\nst.global.u32 [%a], 2;",
            "b32", {"u64"}, {where}, Column(64, 1));
    const std::vector<uint32_t> got = words.read();
    for (size_t i = 0; i < 64; ++i) ASSERT_EQ(got[i], i % 4 == 1 ? 1u : 2u) << leave;
  }
}

TEST(Control, TrapsAndFailedAssertionsEndTheKernel) {
  for (const std::string stop :
       {"trap;", "brkpt;", "call.uni __assertfail, (%a);", "call __assertfail, (%a);"}) {
    Column lanes(64);
    for (size_t i = 0; i < 64; ++i) lanes[i] = i;
    FindingCapture capture;
    run_ptx("setp.eq.u32 %q, %a, 40; @!%q bra fine; " + stop + " fine: mov.u32 %d, 1;", "b32", {"u32"},
            {lanes});
    EXPECT_NE(capture.all().find("trap, or a failed assertion"), std::string::npos) << stop << capture.all();
    EXPECT_NE(capture.all().find("thread (40,0,0)"), std::string::npos) << stop << capture.all();
    capture.clear();
    run_ptx("setp.eq.u32 %q, %a, 64; @!%q bra fine; " + stop + " fine: mov.u32 %d, 1;", "b32", {"u32"},
            {lanes});
    EXPECT_EQ(capture.all(), "") << stop;
  }
}

}  // namespace

}  // namespace kiln::emulator::testing
