// Instructions of whole warps and blocks against their description in the PTX ISA: shuffles, votes, reductions, barriers; and
// what special registers say.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/cuda_emulator/launch.h"
#include "tests/cuda_emulator/modules.h"
#include "tests/cuda_emulator/tests/device_array.h"
#include "tests/cuda_emulator/tests/ptx_harness.h"

namespace kiln::emulator::testing {

namespace {

Column counted(size_t count, Bits first, Bits step) {
  Column column(count);
  for (size_t i = 0; i < count; ++i) column[i] = first + step * i;
  return column;
}

// The ISA's pseudo code of shfl.
std::pair<int, bool> shuffled(const std::string& mode, int lane, int b, int c) {
  const int mask = c >> 8 & 31, clamp = c & 31, max_lane = (lane & mask) | (clamp & ~mask),
            min_lane = lane & mask;
  int j = 0;
  bool inside = false;
  if (mode == "up") j = lane - b, inside = j >= max_lane;
  if (mode == "down") j = lane + b, inside = j <= max_lane;
  if (mode == "bfly") j = lane ^ b, inside = j <= max_lane;
  if (mode == "idx") j = min_lane | (b & ~mask), inside = j <= max_lane;
  return {inside ? j : lane, inside};
}

TEST(Warp, Shuffles) {
  const Column values = counted(64, 1000, 7);
  for (const std::string mode : {"up", "down", "bfly", "idx"}) {
    for (const int width : {32, 16, 8, 4}) {
      for (const int b : {0, 1, 3, 5, 16, 31}) {
        const int c = (32 - width) << 8 | (mode == "up" ? 0 : 31);
        const std::string operands = " %a, " + std::to_string(b) + ", " + std::to_string(c) + ", -1;";
        const Column got = run_ptx("shfl.sync." + mode + ".b32 %d," + operands, "b32", {"u32"}, {values});
        const Column inside = run_ptx("{.reg .b32 %x; shfl.sync." + mode + ".b32 %x|%d," + operands + "}",
                                      "pred", {"u32"}, {values});
        for (int i = 0; i < 64; ++i) {
          const auto [lane, is_inside] = shuffled(mode, i % 32, b, c);
          ASSERT_EQ(got[static_cast<size_t>(i)], values[static_cast<size_t>(i / 32 * 32 + lane)])
              << mode << width << " " << b;
          ASSERT_EQ(inside[static_cast<size_t>(i)], Bits{is_inside}) << mode << width << " " << b;
        }
      }
    }
  }
}

TEST(Warp, ShuffleDistancesMayDiffer) {
  const Column values = counted(32, 5, 3), from = counted(32, 31, ~Bits{0});
  const Column got = run_ptx("shfl.sync.idx.b32 %d, %a, %b, 31, -1;", "b32", {"u32", "u32"}, {values, from});
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(got[i], values[31 - i]);
}

TEST(Warp, Votes) {
  Column votes(96);  // first warp mixed, second none, third all
  for (size_t i = 0; i < 96; ++i) votes[i] = i < 32 ? i % 3 == 0 : i >= 64;
  Bits mixed = 0;
  for (size_t i = 0; i < 32; ++i) mixed |= votes[i] << i;
  const auto check = [&](const std::string& instruction, const std::string& type,
                         const std::vector<Bits>& expected) {
    const Column got = run_ptx(instruction, type, {"pred"}, {votes});
    for (size_t i = 0; i < 96; ++i) ASSERT_EQ(got[i], expected[i / 32]) << instruction;
  };
  check("vote.sync.ballot.b32 %d, %a, -1;", "b32", {mixed, 0, 0xffffffff});
  check("vote.sync.ballot.b32 %d, !%a, -1;", "b32", {mixed ^ 0xffffffff, 0xffffffff, 0});
  check("vote.sync.any.pred %d, %a, -1;", "pred", {1, 0, 1});
  check("vote.sync.all.pred %d, %a, -1;", "pred", {0, 0, 1});
  check("vote.sync.uni.pred %d, %a, -1;", "pred", {0, 1, 1});
}

TEST(Warp, LanesOfAMaskMeetAlone) {
  const Column mask = [] {
    Column made(32);
    for (size_t i = 0; i < 32; ++i) made[i] = i < 16 ? 0x0000ffff : 0xffff0000;
    return made;
  }();
  const Column got =
      run_ptx("redux.sync.add.u32 %d, %b, %a;", "b32", {"u32", "u32"}, {mask, counted(32, 0, 1)});
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(got[i], i < 16 ? 120u : 376u);
  // Half of the warp only.
  Column active(32);
  for (size_t i = 0; i < 32; ++i) active[i] = i >= 16;
  const Column half =
      run_ptx("redux.sync.max.u32 %d, %b, %a;", "b32", {"u32", "u32"}, {mask, counted(32, 0, 1)}, active);
  for (size_t i = 16; i < 32; ++i) EXPECT_EQ(half[i], 31u);
}

TEST(Warp, Reductions) {
  std::mt19937_64 random(3);
  Column values(32);
  for (Bits& value : values) value = random() & 0xffffffff;
  const auto check = [&](const std::string& instruction, Bits start, auto combine) {
    Bits expected = start;
    for (const Bits value : values) expected = combine(expected, value);
    for (const Bits got : run_ptx("redux.sync." + instruction + " %d, %a, -1;", "b32", {"u32"}, {values})) {
      ASSERT_EQ(got, expected & 0xffffffff) << instruction;
    }
  };
  const auto as_signed = [](Bits x) { return static_cast<int32_t>(x); };
  check("add.u32", 0, [](Bits a, Bits b) { return a + b; });
  check("add.s32", 0, [](Bits a, Bits b) { return a + b; });
  check("min.u32", 0xffffffff, [](Bits a, Bits b) { return std::min(a, b); });
  check("max.u32", 0, [](Bits a, Bits b) { return std::max(a, b); });
  check("min.s32", 0x7fffffff, [&](Bits a, Bits b) { return as_signed(a) < as_signed(b) ? a : b; });
  check("max.s32", 0x80000000, [&](Bits a, Bits b) { return as_signed(a) > as_signed(b) ? a : b; });
  check("and.b32", ~Bits{0}, [](Bits a, Bits b) { return a & b; });
  check("or.b32", 0, [](Bits a, Bits b) { return a | b; });
  check("xor.b32", 0, [](Bits a, Bits b) { return a ^ b; });
}

TEST(Warp, Matches) {
  for (const std::string bits : {"32", "64"}) {
    Column values(96);  // the high half counts too
    const Bits high = bits == "64" ? Bits{1} << 40 : 0;
    for (size_t i = 0; i < 96; ++i) values[i] = i < 32 ? i % 5 : i < 64 ? 9 : 9 + high * (i % 2);
    const auto run = [&](const std::string& body, const std::string& type) {
      return run_ptx("{.reg .pred %p; .reg .b32 %r; " + body + "}", type, {"u" + bits}, {values});
    };
    const Column any = run("match.any.sync.b" + bits + " %d, %a, -1;", "b32");
    const Column all = run("match.all.sync.b" + bits + " %d|%p, %a, -1;", "b32");
    const Column agree = run("match.all.sync.b" + bits + " %r|%d, %a, -1;", "pred");
    for (size_t i = 0; i < 96; ++i) {
      Bits same = 0;
      for (size_t other = 0; other < 32; ++other)
        same |= Bits{values[i / 32 * 32 + other] == values[i]} << other;
      EXPECT_EQ(any[i], same);
      EXPECT_EQ(all[i], same == 0xffffffff ? same : 0);
      EXPECT_EQ(agree[i], Bits{same == 0xffffffff});
    }
  }
}

// A grid and blocks of three dimensions, with shared memory of both kinds.
TEST(Warp, SpecialRegisters) {
  struct Said {
    std::string name;
    std::function<Bits(const dim3& block, const dim3& thread, Bits number)> expected;
  };
  const dim3 grid(3, 2, 4), threads(5, 4, 3);
  const auto below = [](Bits lane) { return (Bits{1} << lane) - 1; };
  const std::vector<Said> all = {
      {"%tid.x", [](auto&, auto& t, Bits) { return t.x; }},
      {"%tid.y", [](auto&, auto& t, Bits) { return t.y; }},
      {"%tid.z", [](auto&, auto& t, Bits) { return t.z; }},
      {"%ntid.x", [](auto&, auto&, Bits) { return 5; }},
      {"%ntid.y", [](auto&, auto&, Bits) { return 4; }},
      {"%ntid.z", [](auto&, auto&, Bits) { return 3; }},
      {"%ctaid.x", [](auto& b, auto&, Bits) { return b.x; }},
      {"%ctaid.y", [](auto& b, auto&, Bits) { return b.y; }},
      {"%ctaid.z", [](auto& b, auto&, Bits) { return b.z; }},
      {"%nctaid.x", [](auto&, auto&, Bits) { return 3; }},
      {"%nctaid.y", [](auto&, auto&, Bits) { return 2; }},
      {"%nctaid.z", [](auto&, auto&, Bits) { return 4; }},
      {"%laneid", [](auto&, auto&, Bits i) { return i % 32; }},
      {"%lanemask_eq", [](auto&, auto&, Bits i) { return Bits{1} << i % 32; }},
      {"%lanemask_lt", [&](auto&, auto&, Bits i) { return below(i % 32); }},
      {"%lanemask_le", [&](auto&, auto&, Bits i) { return below(i % 32 + 1); }},
      {"%lanemask_gt", [&](auto&, auto&, Bits i) { return ~below(i % 32 + 1); }},
      {"%lanemask_ge", [&](auto&, auto&, Bits i) { return ~below(i % 32); }},
      {"%dynamic_smem_size", [](auto&, auto&, Bits) { return 100; }},
      {"%total_smem_size", [](auto&, auto&, Bits) { return 128; }},  // 100 and 8, in units of 128
      {"WARP_SZ", [](auto&, auto&, Bits) { return 32; }}};
  std::string text =
      ".visible .entry specials(.param .u64 out) {\n.reg .b32 %r<9>; .reg .b64 %d<9>; .shared .b64 fixed;\n"
      "mov.u32 %r1, %ctaid.z; mad.lo.u32 %r1, %r1, 2, %ctaid.y; mad.lo.u32 %r1, %r1, 3, %ctaid.x;\n"
      "mad.lo.u32 %r1, %r1, 3, %tid.z; mad.lo.u32 %r1, %r1, 4, %tid.y; mad.lo.u32 %r1, %r1, 5, %tid.x;\n"
      "ld.param.u64 %d1, [out]; mad.wide.u32 %d1, %r1, 128, %d1; mov.u32 %r3, fixed;\n";
  for (size_t i = 0; i < all.size(); ++i)
    text += "mov.u32 %r2, " + all[i].name + "; st.global.u32 [%d1+" + std::to_string(4 * i) + "], %r2;\n";
  Module module(text + "ret;\n}\n");
  const size_t count = 24 * 60;
  DeviceArray<uint32_t> out(32 * count);
  uint32_t* pointer = out.data();
  void* arguments[] = {&pointer};
  add_launch(Streams::instance().default_stream(), module.kernel("specials"), {grid.x, grid.y, grid.z},
             {threads.x, threads.y, threads.z}, 100, arguments);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  for (size_t i = 0; i < all.size(); ++i) {
    for (size_t row = 0; row < count; ++row) {
      const unsigned number = static_cast<unsigned>(row % 60), b = static_cast<unsigned>(row / 60);
      const dim3 block(b % 3, b / 3 % 2, b / 6), thread(number % 5, number / 5 % 4, number / 20);
      uint32_t said = 0;
      ASSERT_EQ(cudaMemcpy(&said, out.data() + 32 * row + i, 4, cudaMemcpyDeviceToHost), cudaSuccess);
      ASSERT_EQ(said, static_cast<uint32_t>(all[i].expected(block, thread, number)))
          << all[i].name << " of thread " << number << ", block " << b;
    }
  }
}

TEST(Block, BarriersReduce) {
  Column votes(96);
  for (size_t i = 0; i < 96; ++i) votes[i] = i % 4 == 1;
  const auto check = [&](const std::string& instruction, const std::string& type, Bits expected) {
    for (const Bits got : run_ptx(instruction, type, {"pred"}, {votes}))
      ASSERT_EQ(got, expected) << instruction;
  };
  for (const std::string name : {"bar.", "barrier.", "bar.cta.", "barrier.cta."}) {
    check(name + "red.popc.u32 %d, 0, %a;", "b32", 24);
    check(name + "red.popc.u32 %d, 0, !%a;", "b32", 72);
    check(name + "red.and.pred %d, 1, %a;", "pred", 0);
    check(name + "red.or.pred %d, 1, 96, %a;", "pred", 1);
    check("setp.ge.s32 %q, %lane, 0; " + name + "red.and.pred %d, 1, %q;", "pred", 1);
    check("setp.lt.s32 %q, %lane, 0; " + name + "red.or.pred %d, 1, %q;", "pred", 0);
  }
}

// What one thread writes another may read after a barrier: reversed within the block.
TEST(Block, BarriersOrder) {
  const Column values = counted(64, 1000, 7);
  const std::string before =
      ".shared .align 8 .b8 tile[256]; .reg .b32 %to, %from; mov.u32 %to, tile; mad.lo.u32 %to, %lane, 4, "
      "%to; "
      "mov.u32 %from, tile+252; mad.lo.s32 %from, %lane, -4, %from; st.shared.u32 [%to], %a; ";
  for (const std::string barrier :
       {"bar.sync 0;", "bar.sync 3, 64;", "barrier.sync 0;", "barrier.sync.aligned 1, 64;"}) {
    const Column got = run_ptx(before + barrier + " ld.shared.u32 %d, [%from];", "b32", {"u32"}, {values});
    for (size_t i = 0; i < 64; ++i) ASSERT_EQ(got[i], values[63 - i]) << barrier;
  }
  // The first warp writes and only arrives, the second waits and reads.
  for (const std::string name : {"bar.", "barrier."}) {
    const Column got =
        run_ptx(before + "mov.u32 %d, 0; setp.lt.u32 %q, %lane, 32; @%q " + name +
                    "arrive 2, 64; @%q bra out; " + name + "sync 2, 64; ld.shared.u32 %d, [%from]; out:",
                "b32", {"u32"}, {values});
    for (size_t i = 0; i < 64; ++i) ASSERT_EQ(got[i], i < 32 ? 0 : values[63 - i]) << name;
  }
  const Column within =
      run_ptx(before + "xor.b32 %from, %to, 4; bar.warp.sync -1; ld.shared.u32 %d, [%from];", "b32", {"u32"},
              {values});
  for (size_t i = 0; i < 64; ++i) ASSERT_EQ(within[i], values[i ^ 1]);
}

}  // namespace

}  // namespace kiln::emulator::testing
