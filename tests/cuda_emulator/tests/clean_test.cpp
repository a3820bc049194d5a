// Kernels in unlike styles compute what the host computes and raise no alarm (without a capture, any would end the
// process). Shapes are ragged on purpose.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "tests/cuda_emulator/small_floats.h"
#include "tests/cuda_emulator/tests/clean.h"
#include "tests/cuda_emulator/tests/device_array.h"

namespace kiln::emulator::testing {

namespace {

std::vector<float> numbers(size_t count, uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::vector<float> made(count);
  for (float& x : made) x = static_cast<float>(static_cast<int>(random() % 2001) - 1000) / 500.0f;
  return made;
}

// fp32 sums of n terms of size s: n rounding errors of at most half an ulp of a partial sum, at most n s 2^-24 each.
double sum_tolerance(size_t n, double size) {
  return static_cast<double>(n) * static_cast<double>(n) * size * 0x1p-24;
}

void expect_near(const std::vector<float>& got, const std::vector<double>& expected, double tolerance) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(static_cast<double>(got[i]), expected[i], tolerance) << "at " << i;
}

TEST(Clean, CopiesInVectors) {
  for (const int n : {1, 5, 512, 1023}) {
    const std::vector<float> in = numbers(static_cast<size_t>(n));
    DeviceArray<float> from(in), to(in.size());
    copy_vectors(to.data(), from.data(), n);
    EXPECT_EQ(to.read(), in);
  }
}

TEST(Clean, Saxpy) {
  const std::vector<float> x = numbers(1000), y = numbers(1000, 2);
  DeviceArray<float> dx(x), dy(y);
  saxpy_strided(dy.data(), dx.data(), 0.5f, 1000);
  const std::vector<float> got = dy.read();
  for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(got[i], std::fma(0.5f, x[i], y[i]));
}

TEST(Clean, Transposes) {
  constexpr int kRows = 45, kColumns = 70;
  const std::vector<float> in = numbers(kRows * kColumns);
  DeviceArray<float> from(in), to(in.size());
  transpose_tiles(to.data(), from.data(), kRows, kColumns);
  const std::vector<float> got = to.read();
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t c = 0; c < kColumns; ++c) ASSERT_EQ(got[c * kRows + r], in[r * kColumns + c]);
  }
}

TEST(Clean, SumsInThreeWays) {
  constexpr int kCount = 1000;
  const std::vector<float> in = numbers(kCount);
  const double exact = std::accumulate(in.begin(), in.end(), 0.0);
  DeviceArray<float> from(in), blocks(8), one(1), atomic(std::vector<float>{0.0f});
  reduce_tree(blocks.data(), from.data(), kCount);
  reduce_shuffles(one.data(), from.data(), kCount);
  reduce_atomics(atomic.data(), from.data(), kCount);
  const std::vector<float> parts = blocks.read();
  const double tolerance = sum_tolerance(kCount, 2) / 100;  // trees are log2(n) deep
  EXPECT_NEAR(std::accumulate(parts.begin(), parts.end(), 0.0), exact, tolerance);
  EXPECT_NEAR(static_cast<double>(one.read()[0]), exact, tolerance);
  EXPECT_NEAR(static_cast<double>(atomic.read()[0]), exact, tolerance);
}

TEST(Clean, Histogram) {
  std::vector<uint8_t> in(3001);
  std::vector<unsigned> expected(256);
  for (size_t i = 0; i < in.size(); ++i) ++expected[in[i] = static_cast<uint8_t>(i * i % 251)];
  DeviceArray<uint8_t> from(in);
  DeviceArray<unsigned> bins(std::vector<unsigned>(256, 0));
  histogram(bins.data(), from.data(), static_cast<int>(in.size()));
  EXPECT_EQ(bins.read(), expected);
}

TEST(Clean, Scan) {
  std::vector<int> in(200), expected(200);
  std::iota(in.begin(), in.end(), -50);
  std::partial_sum(in.begin(), in.end(), expected.begin());
  DeviceArray<int> from(in), to(in.size());
  scan_block(to.data(), from.data(), 200);
  EXPECT_EQ(to.read(), expected);
}

TEST(Clean, MatrixProductsInThreeWays) {
  constexpr int kN = 37;
  const std::vector<float> a = numbers(kN * kN), b = numbers(kN * kN, 2);
  std::vector<double> expected(kN * kN);
  for (size_t i = 0; i < kN; ++i) {
    for (size_t j = 0; j < kN; ++j) {
      for (size_t k = 0; k < kN; ++k)
        expected[i * kN + j] += static_cast<double>(a[i * kN + k]) * static_cast<double>(b[k * kN + j]);
    }
  }
  DeviceArray<float> da(a), db(b);
  for (const auto multiply : {multiply_naive, multiply_tiles, multiply_registers}) {
    DeviceArray<float> c(a.size());
    multiply(c.data(), da.data(), db.data(), kN);
    expect_near(c.read(), expected, sum_tolerance(kN, 4));
  }
}

TEST(Clean, Softmax) {
  constexpr int kRows = 5, kColumns = 77;
  const std::vector<float> in = numbers(kRows * kColumns);
  std::vector<double> expected(in.size());
  for (size_t r = 0; r < kRows; ++r) {
    double sum = 0;
    for (size_t c = 0; c < kColumns; ++c) sum += std::exp(static_cast<double>(in[r * kColumns + c]));
    for (size_t c = 0; c < kColumns; ++c)
      expected[r * kColumns + c] = std::exp(static_cast<double>(in[r * kColumns + c])) / sum;
  }
  DeviceArray<float> from(in), to(in.size());
  softmax_rows(to.data(), from.data(), kRows, kColumns);
  expect_near(to.read(), expected, 1e-6);  // values below 0.1, a few ulps of expf, 77 sums
}

TEST(Clean, Stencil) {
  const std::vector<float> in = numbers(200);
  DeviceArray<float> from(in), to(in.size());
  stencil(to.data(), from.data(), 200);
  std::vector<double> expected;
  for (size_t i = 0; i < 200; ++i) {
    expected.push_back((i > 0 ? static_cast<double>(in[i - 1]) : 0) + 2 * static_cast<double>(in[i]) +
                       (i < 199 ? static_cast<double>(in[i + 1]) : 0));
  }
  expect_near(to.read(), expected, 8 * 0x1p-23);
}

TEST(Clean, WarpsThatProduceAndWarpsThatConsume) {
  for (const size_t chunks : {1, 2, 7}) {
    const std::vector<float> in = numbers(64 * chunks);
    DeviceArray<float> from(in), to(in.size());
    producer_consumer(to.data(), from.data(), static_cast<int>(in.size()));
    const std::vector<float> got = to.read();
    for (size_t i = 0; i < in.size(); ++i) ASSERT_EQ(got[i], 2 * in[i / 64 * 64 + 63 - i % 64]);
  }
}

TEST(Clean, SmallElementsOfDifferentThreads) {
  DeviceArray<uint8_t> bytes(131);
  bytes_of_others(bytes.data(), 131);
  const std::vector<uint8_t> got = bytes.read();
  for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], static_cast<uint8_t>(i % 2 ? 3 * i : i));
  DeviceArray<uint16_t> halves(130);
  halves_of_words(halves.data(), 130);
  const std::vector<uint16_t> words = halves.read();
  for (size_t i = 0; i < words.size(); ++i) ASSERT_EQ(words[i], static_cast<uint16_t>(7 * i));
}

TEST(Clean, Compacts) {
  std::vector<int> in(300);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<int>(i * 7919 % 13) - 6;
  DeviceArray<int> from(in), to(in.size()), count(std::vector<int>{0});
  compact(to.data(), count.data(), from.data(), 300);
  std::vector<int> expected;
  std::copy_if(in.begin(), in.end(), std::back_inserter(expected), [](int x) { return x > 0; });
  ASSERT_EQ(count.read()[0], static_cast<int>(expected.size()));
  std::vector<int> got = to.read();
  got.resize(expected.size());
  EXPECT_EQ(got, expected);  // blocks run in order
}

TEST(Clean, PipelineOfAsynchronousCopies) {
  for (const size_t tiles : {1, 2, 5}) {
    const std::vector<float> in = numbers(256 * tiles);
    DeviceArray<float> from(in), to(in.size());
    reverse_by_pipeline(to.data(), from.data(), static_cast<int>(tiles));
    const std::vector<float> got = to.read();
    for (size_t i = 0; i < in.size(); ++i) ASSERT_EQ(got[i], in[i / 256 * 256 + 255 - i % 256]);
  }
}

TEST(Clean, FunctorsAndSwitches) {
  const std::vector<float> in = numbers(150);
  DeviceArray<float> from(in);
  for (int which = 0; which < 4; ++which) {
    DeviceArray<float> to(in.size());
    apply_functor(to.data(), from.data(), 150, which);
    std::vector<double> expected;
    for (size_t i = 0; i < in.size(); ++i) {
      const double x = static_cast<double>(in[i]);
      const double by_case[] = {x + 1, x * x, std::sin(x), -x, std::tanh(x), std::log(1 + std::fabs(x))};
      expected.push_back(which == 0   ? 2 * x
                         : which == 1 ? std::sqrt(std::fabs(x))
                                      : by_case[(static_cast<size_t>(which) + i) % 6]);
    }
    expect_near(to.read(), expected, 8 * 0x1p-22);  // values up to 4, a few ulps of the functions
  }
}

TEST(Clean, HalvesOfAWarp) {
  const std::vector<float> in = numbers(32);
  DeviceArray<float> from(in), to(96);
  warp_halves(to.data(), from.data());
  const std::vector<float> got = to.read();
  for (size_t i = 0; i < 96; ++i) {
    const size_t lane = i % 32;
    ASSERT_EQ(got[i], in[(lane & 16) + 15 - lane % 16] + static_cast<float>(i / 32));
  }
}

TEST(Clean, BrainGelu) {
  std::vector<uint16_t> in;
  for (const float x : numbers(100)) in.push_back(float_to_brain(x));
  DeviceArray<uint16_t> from(in), to(in.size());
  brain_gelu(to.data(), from.data(), 100);
  const std::vector<uint16_t> got = to.read();
  for (size_t i = 0; i < in.size(); ++i) {
    const double x = static_cast<double>(brain_to_float(in[i])),
                 expected = 0.5 * x * (1 + std::erf(x * std::sqrt(0.5)));
    // Half an ulp of bf16, and what 1 + erff loses in fp32 near -2.
    ASSERT_NEAR(static_cast<double>(brain_to_float(got[i])), expected, std::fabs(expected) * 0x1p-8 + 1e-6);
  }
}

TEST(Clean, ParametersInAStruct) {
  DeviceArray<float> to(99);
  struct_by_value(to.data(), 99);
  const std::vector<float> got = to.read();
  const float table[] = {1, 2, 3, 5, 7};
  for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], table[i % 5] * static_cast<float>(i));
}

TEST(Clean, BitonicSort) {
  std::vector<int> values(256);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int>(i * 7919 % 1009);
  DeviceArray<int> memory(values);
  sort_bitonic(memory.data(), 256);
  std::sort(values.begin(), values.end());
  EXPECT_EQ(memory.read(), values);
}

TEST(Clean, WholeBlocksMayLeave) {
  constexpr size_t kRows = 6, kColumns = 100;
  const std::vector<float> in = numbers(kRows * kColumns);
  DeviceArray<float> from(in), to(in.size());
  last_rows(to.data(), from.data(), kRows, kColumns);
  std::vector<float> expected(in.rbegin(), in.rend());
  EXPECT_EQ(to.read(), expected);
}

TEST(Clean, Philox) {
  DeviceArray<uint32_t> to(4 * 70);
  random_numbers(to.data(), 70, 0);
  const std::vector<uint32_t> got = to.read();
  // Known answer of Philox4x32-10 for counter and key zero, from the Random123 library's tests.
  EXPECT_EQ(std::vector<uint32_t>(got.begin(), got.begin() + 4),
            (std::vector<uint32_t>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
}

// A grid of more blocks than fit into 16 bits, and of three dimensions.
TEST(Clean, BigGrid) {
  constexpr int kCount = 70001 * 64;
  DeviceArray<uint8_t> bytes(kCount);
  bytes_of_others(bytes.data(), kCount);
  const std::vector<uint8_t> got = bytes.read();
  for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], static_cast<uint8_t>(i % 2 ? 3 * i : i));
}

}  // namespace

}  // namespace kiln::emulator::testing
