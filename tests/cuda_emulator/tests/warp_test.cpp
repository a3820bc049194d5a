// Instructions of the whole warp against their description in the PTX ISA: shuffles, votes, reductions, matrices,
// asynchronous copies; and memory instructions: vectors, extension, atomics.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <random>

#include "tests/cuda_emulator/small_floats.h"
#include "tests/cuda_emulator/tests/device_array.h"
#include "tests/cuda_emulator/tests/instructions.h"
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
  Column values(64);
  for (size_t i = 0; i < 64; ++i) values[i] = i < 32 ? i % 5 : 9;
  const Column any = run_ptx("match.any.sync.b32 %d, %a, -1;", "b32", {"u32"}, {values});
  const Column all = run_ptx("{.reg .pred %p; match.all.sync.b32 %d|%p, %a, -1;}", "b32", {"u32"}, {values});
  for (size_t i = 0; i < 64; ++i) {
    Bits same = 0;
    for (size_t other = 0; other < 32; ++other)
      same |= Bits{values[i / 32 * 32 + other] == values[i]} << other;
    EXPECT_EQ(any[i], same);
    EXPECT_EQ(all[i], i < 32 ? 0 : 0xffffffff);
  }
}

TEST(Warp, SpecialRegisters) {
  const Column any = counted(64, 0, 0);
  const auto check = [&](const std::string& name, auto expected) {
    const Column got = run_ptx("mov.u32 %d, " + name + ";", "b32", {"u32"}, {any});
    for (Bits i = 0; i < 64; ++i) ASSERT_EQ(got[i], expected(i) & 0xffffffff) << name << " of " << i;
  };
  check("%tid.x", [](Bits i) { return i; });
  check("%tid.y", [](Bits) { return Bits{0}; });
  check("%ntid.x", [](Bits) { return Bits{64}; });
  check("%nctaid.x", [](Bits) { return Bits{1}; });
  check("%ctaid.x", [](Bits) { return Bits{0}; });
  check("%laneid", [](Bits i) { return i % 32; });
  check("%warpid", [](Bits i) { return i / 32; });
  check("%lanemask_eq", [](Bits i) { return Bits{1} << i % 32; });
  check("%lanemask_lt", [](Bits i) { return (Bits{1} << i % 32) - 1; });
  check("%lanemask_le", [](Bits i) { return (Bits{2} << i % 32) - 1; });
  check("%lanemask_gt", [](Bits i) { return ~((Bits{2} << i % 32) - 1); });
  check("%lanemask_ge", [](Bits i) { return ~((Bits{1} << i % 32) - 1); });
  check("WARP_SZ", [](Bits) { return Bits{32}; });
}

TEST(Block, BarriersReduce) {
  Column votes(96);
  for (size_t i = 0; i < 96; ++i) votes[i] = i % 4 == 1;
  const auto check = [&](const std::string& instruction, const std::string& type, Bits expected) {
    for (const Bits got : run_ptx(instruction, type, {"pred"}, {votes}))
      ASSERT_EQ(got, expected) << instruction;
  };
  check("barrier.sync 0; bar.red.popc.u32 %d, 0, %a;", "b32", 24);
  check("bar.red.popc.u32 %d, 0, !%a;", "b32", 72);
  check("bar.red.and.pred %d, 1, %a;", "pred", 0);
  check("bar.red.or.pred %d, 1, 96, %a;", "pred", 1);
}

// ---- memory ----

TEST(Memory, VectorsAndExtension) {
  // 128 threads store and load through shared memory in all shapes.
  const Column values = interesting({"u32"})[0];
  const std::string shared =
      ".shared .align 16 .b8 tile[32768]; .reg .b32 %s, %x, %y, %z; .reg .b16 %h; .reg .b64 %w; mul.lo.u32 "
      "%s, %lane, 16; "
      "mov.u32 %x, tile; add.u32 %s, %s, %x; ";
  const auto check = [&](const std::string& body, const std::string& type, auto expected) {
    expect_ptx(shared + body, type, {"u32"}, {values}, [&](Values v) { return expected(v[0]); });
  };
  check("st.shared.v4.u32 [%s], {1, 2, %a, 4}; ld.shared.v4.u32 {_, _, %d, _}, [%s];", "b32",
        [](Bits a) { return a; });
  check("st.shared.v2.u32 [%s], {%a, 2}; ld.shared.u64 %d, [%s];", "b64",
        [](Bits a) { return Bits{2} << 32 | a; });
  check("st.shared.u32 [%s], %a; ld.shared.s8 %d, [%s];", "b32",
        [](Bits a) { return static_cast<Bits>(int32_t{static_cast<int8_t>(a)}); });
  check("st.shared.u32 [%s], %a; ld.shared.u8 %d, [%s+1];", "b32", [](Bits a) { return a >> 8 & 255; });
  check("st.shared.u32 [%s], %a; ld.shared.s16 %d, [%s];", "b32",
        [](Bits a) { return static_cast<Bits>(int32_t{static_cast<int16_t>(a)}); });
  check("st.shared.u32 [%s], %a; ld.shared.u16 %h, [%s+2]; cvt.u32.u16 %d, %h;", "b32",
        [](Bits a) { return a >> 16; });
  check("st.shared.u32 [%s], %a; ld.shared.s32 %d, [%s];", "b64",
        [](Bits a) { return static_cast<Bits>(int64_t{static_cast<int32_t>(a)}); });
  check("st.shared.u32 [%s], 0; st.shared.u8 [%s+1], %a; ld.shared.b32 %d, [%s];", "b32",
        [](Bits a) { return (a & 255) << 8; });
  check("cvt.u64.u32 %w, %s; cvta.shared.u64 %w, %w; st.u32 [%w], %a; ld.u32 %d, [%w];", "b32",
        [](Bits a) { return a; });
}

TEST(Memory, LocalAndGenericAddresses) {
  const Column values = interesting({"u32"})[0];
  expect_ptx(
      ".local .align 8 .b8 depot[16]; .reg .b64 %l, %g; mov.u64 %l, depot; cvta.local.u64 %g, %l; "
      "st.local.u32 [%l+4], %a; "
      "ld.u32 %d, [%g+4];",
      "b32", {"u32"}, {values}, [](Values v) { return v[0]; });
  expect_ptx(
      ".local .align 8 .b8 depot[16]; .reg .b64 %l, %g; mov.u64 %l, depot; cvta.local.u64 %g, %l; "
      "isspacep.local %d, %g;",
      "pred", {"u32"}, {values}, [](Values) { return Bits{1}; });
}

// All threads of a block update one word; what they get back must be the words that were there in some order.
void check_atomic(const std::string& instruction, const std::string& type, Bits start, const Column& values,
                  Bits expected) {
  DeviceArray<Bits> word(std::vector<Bits>{start});
  const Bits address = reinterpret_cast<Bits>(word.data());
  const Column where(values.size(), address);
  run_ptx("atom.global." + instruction + " %d, [%a], %b;", type, {"u64", type}, {where, values});
  EXPECT_EQ(word.read()[0], expected) << instruction;
  DeviceArray<Bits> again(std::vector<Bits>{start});
  const Column elsewhere(values.size(), reinterpret_cast<Bits>(again.data()));
  run_ptx("red.global." + instruction + " [%a], %b;", type, {"u64", type}, {elsewhere, values});
  EXPECT_EQ(again.read()[0], expected) << instruction;
}

TEST(Memory, Atomics) {
  const Column numbers = counted(64, 1, 1);
  check_atomic("add.u32", "b32", 10, numbers, 10 + 64 * 65 / 2);
  check_atomic("add.u64", "b64", 10, numbers, 10 + 64 * 65 / 2);
  check_atomic("min.u32", "b32", 10, numbers, 1);
  check_atomic("max.u64", "b64", 10, numbers, 64);
  check_atomic("min.s32", "b32", 5, counted(64, static_cast<Bits>(-3), 1), 0xfffffffd);
  check_atomic("max.s32", "b32", 0xfffffff0, counted(64, static_cast<Bits>(-3), 1), 60);
  check_atomic("and.b32", "b32", 0xff, Column(64, 0x3c), 0x3c);
  check_atomic("or.b32", "b32", 0x100, numbers, 0x17f);
  check_atomic("xor.b32", "b32", 0x100, Column(64, 0x3c), 0x100);
  check_atomic("inc.u32", "b32", 0, Column(64, 9), 64 % 10);
  check_atomic("dec.u32", "b32", 3, Column(64, 9), 9);
  check_atomic("add.f32", "b32", bits_of(0.5f), Column(64, bits_of(0.25f)), bits_of(16.5f));
  check_atomic("add.f64", "b64", bits_of(0.5), Column(64, bits_of(0.25)), bits_of(16.5));
  check_atomic("add.noftz.f16", "b16", 0x3c00, Column(64, 0x3c00), 0x5410);                // 1 + 64 ones = 65
  check_atomic("add.noftz.f16x2", "b32", 0x3c000000, Column(64, 0x3c003800), 0x54105000);  // 65 and 32
  const Column where(64, 0);
  DeviceArray<Bits> word(std::vector<Bits>{7});
  const Column at(64, reinterpret_cast<Bits>(word.data()));
  const Column old = run_ptx("atom.global.exch.b32 %d, [%a], %b;", "b32", {"u64", "b32"}, {at, numbers});
  std::vector<Bits> seen(old);
  seen.push_back(word.read()[0]);
  std::sort(seen.begin(), seen.end());
  std::vector<Bits> all(numbers);
  all.push_back(7);
  std::sort(all.begin(), all.end());
  EXPECT_EQ(seen, all);
  DeviceArray<Bits> swapped(std::vector<Bits>{5});
  const Column to(64, reinterpret_cast<Bits>(swapped.data()));
  run_ptx("atom.global.cas.b32 %d, [%a], %b, 100;", "b32", {"u64", "b32"}, {to, numbers});
  EXPECT_EQ(swapped.read()[0], 100u);
}

// ---- matrices ----

// Rows and columns of the elements that a lane holds, as the ISA gives them for 16-bit multiplicands.
struct RowColumn {
  int row, column;
};
RowColumn place_a(int lane, int i) {
  return {lane / 4 + ((i / 2) % 2 == 1 ? 8 : 0), lane % 4 * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
}
RowColumn place_b(int lane, int i) {
  return {lane % 4 * 2 + (i & 1) + (i >= 2 ? 8 : 0), lane / 4};
}
RowColumn place_c(int lane, int i) {
  return {lane / 4 + (i >= 2 ? 8 : 0), lane % 4 * 2 + (i & 1)};
}

void check_mma(Mma kind, int depth, bool brain, bool half_sums) {
  std::mt19937 random(11);
  const auto small = [&] { return static_cast<int>(random() % 17) - 8; };
  const auto encode = [&](int x) {
    return Bits{brain ? float_to_brain(static_cast<float>(x)) : float_to_half(static_cast<float>(x))};
  };
  int a[16][16], b[16][8], c[16][8];
  for (auto& row : a)
    for (int& x : row) x = small();
  for (auto& row : b)
    for (int& x : row) x = small();
  for (auto& row : c)
    for (int& x : row) x = small();
  std::vector<uint32_t> ra(128), rb(64), rc(128);
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < depth / 2; ++i) {
      const auto [row, column] = place_a(lane, i);
      ra[static_cast<size_t>(4 * lane + i / 2)] |=
          static_cast<uint32_t>(encode(a[row][column]) << 16 * (i & 1));
    }
    for (int i = 0; i < depth / 4; ++i) {
      const auto [row, column] = place_b(lane, i);
      rb[static_cast<size_t>(2 * lane + i / 2)] |=
          static_cast<uint32_t>(encode(b[row][column]) << 16 * (i & 1));
    }
    for (int i = 0; i < 4; ++i) {
      const auto [row, column] = place_c(lane, i);
      const float value = static_cast<float>(c[row][column]);
      if (half_sums)
        rc[static_cast<size_t>(4 * lane + i / 2)] |= uint32_t{float_to_half(value)} << 16 * (i & 1);
      if (!half_sums) rc[static_cast<size_t>(4 * lane + i)] = std::bit_cast<uint32_t>(value);
    }
  }
  DeviceArray<uint32_t> da(ra), db(rb), dc(rc), dd(128);
  launch_mma(kind, dd.data(), da.data(), db.data(), dc.data());
  const std::vector<uint32_t> rd = dd.read();
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const auto [row, column] = place_c(lane, i);
      int expected = c[row][column];
      for (int k = 0; k < depth; ++k) expected += a[row][k] * b[k][column];
      const uint32_t word = rd[static_cast<size_t>(4 * lane + (half_sums ? i / 2 : i))];
      const float got =
          half_sums ? half_to_float(static_cast<uint16_t>(word >> 16 * (i & 1))) : std::bit_cast<float>(word);
      ASSERT_EQ(got, static_cast<float>(expected)) << lane << " " << i;
    }
  }
}

TEST(Matrix, Products) {
  check_mma(Mma::kBrain16, 16, true, false);
  check_mma(Mma::kHalf16, 16, false, false);
  check_mma(Mma::kHalf16InHalf, 16, false, true);
  check_mma(Mma::kBrain8, 8, true, false);
  check_mma(Mma::kHalf8, 8, false, false);
}

TEST(Matrix, Loads) {
  std::vector<uint16_t> in(256);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint16_t>(1000 + i);
  DeviceArray<uint16_t> source(in);
  for (const auto& [tiles, transposed] :
       {std::pair(1, false), {2, false}, {4, false}, {2, true}, {4, true}}) {
    DeviceArray<uint32_t> out(128);
    launch_ldmatrix(out.data(), source.data(), tiles, transposed);
    const std::vector<uint32_t> got = out.read();
    for (int lane = 0; lane < 32; ++lane) {
      for (int tile = 0; tile < tiles; ++tile) {
        for (int half = 0; half < 2; ++half) {
          const int row = lane / 4, column = 2 * (lane % 4) + half;
          const int at = 64 * tile + (transposed ? 8 * column + row : 8 * row + column);
          ASSERT_EQ(got[static_cast<size_t>(4 * lane + tile)] >> 16 * half & 0xffff,
                    in[static_cast<size_t>(at)]);
        }
      }
    }
  }
}

TEST(Memory, AsynchronousCopies) {
  std::vector<float> in(256);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i + 1);
  DeviceArray<float> source(in), out(256);
  for (const int tail : {16, 12, 4, 0}) {
    launch_copy_async(out.data(), source.data(), tail);
    const std::vector<float> got = out.read();
    for (size_t i = 0; i < 128; ++i) {
      ASSERT_EQ(got[i], in[127 - i]);
      const bool filled = i >= 124 && 4 * (i - 124) >= static_cast<size_t>(tail);
      ASSERT_EQ(got[128 + i], filled ? 0 : in[128 + i]) << tail;
    }
  }
}

}  // namespace

}  // namespace kiln::emulator::testing
