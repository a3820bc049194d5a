// mma and ldmatrix against the lane layouts of the PTX ISA.
#include <gtest/gtest.h>

#include <bit>
#include <random>

#include "tests/cuda_emulator/small_floats.h"
#include "tests/cuda_emulator/tests/device_array.h"
#include "tests/cuda_emulator/tests/ptx_harness.h"

namespace kiln::emulator::testing {

namespace {

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

Column lane_addresses(const uint32_t* first, size_t words_per_lane) {
  Column made(32);
  for (size_t i = 0; i < 32; ++i) made[i] = reinterpret_cast<Bits>(first + words_per_lane * i);
  return made;
}

std::string registers(const std::string& name, int count) {  // "{%A0, %A1}"
  std::string text = "{%" + name + "0";
  for (int i = 1; i < count; ++i) text += ", %" + name + std::to_string(i);
  return text + "}";
}

void check_mma(int depth, bool brain, bool half_sums) {
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
  DeviceArray<uint32_t> da(ra), db(rb), dc(rc), dd(std::vector<uint32_t>(128, 0));
  const std::string in = brain ? "bf16" : "f16", out = half_sums ? "f16" : "f32";
  const int sums = half_sums ? 2 : 4;
  const std::string instruction = "mma.sync.aligned.m16n8k" + std::to_string(depth) + ".row.col." + out +
                                  "." + in + "." + in + "." + out + " " + registers("D", sums) + ", " +
                                  registers("A", depth / 4) + ", " + registers("B", depth / 8) + ", " +
                                  registers("C", sums) + ";\n";
  run_ptx(".reg .b32 %A<4>, %B<2>, %C<4>, %D<4>;\nld.global.v4.u32 " + registers("A", 4) +
              ", [%a]; ld.global.v2.u32 " + registers("B", 2) + ", [%b]; ld.global.v4.u32 " +
              registers("C", 4) + ", [%c];\n" + instruction + "st.global.v" + std::to_string(sums) +
              ".u32 [%e], " + registers("D", sums) + ";",
          "b32", {"u64", "u64", "u64", "u64"},
          {lane_addresses(da.data(), 4), lane_addresses(db.data(), 2), lane_addresses(dc.data(), 4),
           lane_addresses(dd.data(), 4)});
  const std::vector<uint32_t> rd = dd.read();
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const auto [row, column] = place_c(lane, i);
      int expected = c[row][column];
      for (int k = 0; k < depth; ++k) expected += a[row][k] * b[k][column];
      const uint32_t word = rd[static_cast<size_t>(4 * lane + (half_sums ? i / 2 : i))];
      const float got =
          half_sums ? half_to_float(static_cast<uint16_t>(word >> 16 * (i & 1))) : std::bit_cast<float>(word);
      ASSERT_EQ(got, static_cast<float>(expected)) << instruction << lane << " " << i;
    }
  }
}

TEST(Matrix, Products) {
  for (const int depth : {16, 8}) {
    check_mma(depth, true, false);
    check_mma(depth, false, false);
    check_mma(depth, false, true);
  }
}

TEST(Matrix, Loads) {
  std::vector<uint16_t> in(256);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint16_t>(1000 + i);
  DeviceArray<uint16_t> source(in);
  const uint32_t* words = reinterpret_cast<const uint32_t*>(source.data());
  for (const int tiles : {1, 2, 4}) {
    for (const bool transposed : {false, true}) {
      DeviceArray<uint32_t> out(std::vector<uint32_t>(128, 0));
      const std::string name = "ldmatrix.sync.aligned.m8n8.x" + std::to_string(tiles) +
                               (transposed ? ".trans" : "") + ".shared.b16 ";
      run_ptx(
          ".shared .align 16 .b8 tile[512]; .reg .b32 %s, %r<4>; mov.u32 %s, tile; mad.lo.u32 %s, %lane, 16, "
          "%s;\n"
          "ld.global.v4.u32 {%r0, %r1, %r2, %r3}, [%a]; st.shared.v4.u32 [%s], {%r0, %r1, %r2, %r3};\n"
          "bar.warp.sync -1; mov.u32 %r0, 0; mov.u32 %r1, 0; mov.u32 %r2, 0; mov.u32 %r3, 0;\n" +
              name + registers("r", tiles) + ", [%s];\nst.global.v4.u32 [%b], {%r0, %r1, %r2, %r3};",
          "b32", {"u64", "u64"}, {lane_addresses(words, 4), lane_addresses(out.data(), 4)});
      const std::vector<uint32_t> got = out.read();
      for (int lane = 0; lane < 32; ++lane) {
        for (int tile = 0; tile < tiles; ++tile) {
          for (int half = 0; half < 2; ++half) {
            const int row = lane / 4, column = 2 * (lane % 4) + half;
            const int at = 64 * tile + (transposed ? 8 * column + row : 8 * row + column);
            ASSERT_EQ(got[static_cast<size_t>(4 * lane + tile)] >> 16 * half & 0xffff,
                      in[static_cast<size_t>(at)])
                << name;
          }
        }
      }
    }
  }
}

}  // namespace

}  // namespace kiln::emulator::testing
