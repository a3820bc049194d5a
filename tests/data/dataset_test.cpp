#include "data/dataset.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "tests/core/temporary_folder.h"
#include "tests/data/shards.h"

namespace kiln::data {
namespace {

using kiln::testing::TemporaryFolder;
using testing::shard_bytes;

// A row of tokens 0, 1, 2, ... cut into shards of these lengths.
std::string write_row(const TemporaryFolder& folder, const std::vector<int>& lengths) {
  uint16_t next = 0;
  for (size_t i = 0; i < lengths.size(); i++) {
    std::vector<uint16_t> tokens(static_cast<size_t>(lengths[i]));
    for (auto& token : tokens) token = next++;
    folder.write("row_" + std::to_string(100 + i) + ".bin", shard_bytes(tokens));
  }
  return (folder / "row_*.bin").string();
}

TEST(Dataset, WindowsRunAcrossShards) {
  for (const auto& lengths : std::vector<std::vector<int>>{{100},
                                                           {50, 50},
                                                           {33, 1, 1, 2, 63},
                                                           {0, 99, 0, 0, 1, 0},
                                                           {7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 16}}) {
    const TemporaryFolder folder;
    const std::string pattern = write_row(folder, lengths);
    for (const int64_t T : {1, 2, 3, 7, 10, 33, 50, 99}) {
      const Dataset dataset(pattern, 257, T);
      ASSERT_EQ(dataset.tokens(), 100);
      ASSERT_EQ(dataset.windows(), 99 / T);
      std::vector<int32_t> inputs(static_cast<size_t>(T)), targets(inputs);
      for (int64_t window = 0; window < dataset.windows(); window++) {
        dataset.read_window(window, inputs.data(), targets.data());
        for (int64_t i = 0; i < T; i++) {
          ASSERT_EQ(inputs[static_cast<size_t>(i)], window * T + i);
          ASSERT_EQ(targets[static_cast<size_t>(i)], window * T + i + 1);
        }
      }
      EXPECT_THROW(dataset.read_window(dataset.windows(), inputs.data(), targets.data()), Error);
      EXPECT_THROW(dataset.read_window(-1, inputs.data(), targets.data()), Error);
    }
  }
}

TEST(Dataset, TakesMatchesInNameOrder) {
  const TemporaryFolder folder;
  folder.write("b_10.bin", shard_bytes({3}));
  folder.write("b_02.bin", shard_bytes({2}));
  folder.write("a_99.bin", shard_bytes({1}));
  folder.write("b_03.txt", "not a shard");
  folder.write(".hidden_04.bin", "not a shard");
  const std::string path = folder.path().string();
  EXPECT_EQ(Dataset(path + "/*.bin", 4, 2).files(),
            (std::vector<std::string>{path + "/a_99.bin", path + "/b_02.bin", path + "/b_10.bin"}));
  EXPECT_EQ(Dataset(path + "/b_??.bin", 4, 1).files(),
            (std::vector<std::string>{path + "/b_02.bin", path + "/b_10.bin"}));
}

TEST(Dataset, APathWithoutWildcardsIsTakenAsItIs) {
  const TemporaryFolder folder;
  const std::string path = folder.write("odd [name].bin", shard_bytes({1, 2})).string();
  EXPECT_EQ(Dataset(path, 4, 1).files(), std::vector<std::string>{path});
}

// A sparse file: all zeros but for the last token, which lies past the 2 GiB that an int32 offset could
// reach.
TEST(Dataset, ReadsPastTwoGibibytes) {
  const TemporaryFolder folder;
  constexpr int64_t kTokens = (int64_t{1} << 30) + 12345;
  const auto path = folder.write("big.bin", shard_bytes({}, kTokens));
  std::filesystem::resize_file(path, 1024 + 2 * kTokens);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(1024 + 2 * (kTokens - 1));
    file.put(7);
  }
  constexpr int64_t T = 4;
  const Dataset dataset(path.string(), 65536, T);  // every uint16 is a token: nothing to scan
  EXPECT_EQ(dataset.tokens(), kTokens);
  ASSERT_EQ((kTokens - 1) % T, 0) << "the last window must end at the last token";
  int32_t inputs[T], targets[T];
  dataset.read_window(dataset.windows() - 1, inputs, targets);
  EXPECT_EQ(targets[T - 1], 7);
  EXPECT_EQ(inputs[T - 1], 0);
}

// Closed forms: uniform over n is log n; (1/2, 1/4, 1/4) is 1.5 log 2; one token is 0. The sum has at most
// 256 terms of at most log(256) / 256 each, so its rounding error stays below 256 * 2^-53 * log(256) < 2e-13.
TEST(UnigramEntropy, ClosedForms) {
  constexpr double kTolerance = 2e-13;
  EXPECT_NEAR(unigram_entropy(std::vector<int64_t>(256, 5)), std::log(256.0), kTolerance);
  EXPECT_NEAR(unigram_entropy(std::vector<int64_t>{2, 0, 1, 1}), 1.5 * std::log(2.0), kTolerance);
  EXPECT_EQ(unigram_entropy(std::vector<int64_t>{0, 0, 123456789012345, 0}), 0.0);
  const double p = 0.9;
  EXPECT_NEAR(unigram_entropy(std::vector<int64_t>{9'000'000'000'000, 1'000'000'000'000}),
              -p * std::log(p) - (1 - p) * std::log(1 - p), kTolerance);
}

}  // namespace
}  // namespace kiln::data
