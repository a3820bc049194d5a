#include "data/shard.h"

#include <gtest/gtest.h>

#include <numeric>

#include "data/dataset.h"
#include "tests/core/temporary_folder.h"
#include "tests/data/shards.h"

namespace kiln::data {
namespace {

using kiln::testing::content_of;
using kiln::testing::error_message;
using kiln::testing::TemporaryFolder;
using testing::shard_bytes;

TEST(ShardWriter, WritesTheFormatOfLlmC) {
  const TemporaryFolder folder;
  const std::vector<uint16_t> tokens = {256, 1, 2, 50256, 65535};
  ShardWriter writer(folder / "a.bin");
  writer.append(std::span(tokens).first(2));
  writer.append({});
  writer.append(std::span(tokens).subspan(2));
  EXPECT_EQ(writer.tokens(), 5);
  EXPECT_FALSE(std::filesystem::exists(folder / "a.bin")) << "an unfinished shard bears its final name";
  writer.close();
  EXPECT_EQ(content_of(folder / "a.bin"), shard_bytes(tokens));
  EXPECT_FALSE(std::filesystem::exists(folder / "a.bin.tmp"));
  const Shard shard(folder / "a.bin", 65536);
  EXPECT_EQ(std::vector(shard.tokens().begin(), shard.tokens().end()), tokens);
}

TEST(ShardWriter, LeavesNothingWhenNotClosed) {
  const TemporaryFolder folder;
  { ShardWriter(folder / "a.bin").append(std::vector<uint16_t>{1, 2, 3}); }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(ShardWriter, AnEmptyShardIsAShard) {
  const TemporaryFolder folder;
  ShardWriter(folder / "a.bin").close();
  EXPECT_TRUE(Shard(folder / "a.bin", 1).tokens().empty());
}

TEST(ShardWriter, SaysWhereItCannotWrite) {
  const TemporaryFolder folder;
  EXPECT_EQ(
      error_message(ExitCode::data, [&] { ShardWriter writer(folder / "none/a.bin"); }),
      fmt::format("cannot create {}/none/a.bin.tmp: No such file or directory", folder.path().string()));
}

// Lengths around the width of a vector register, and places at the edges of the blocks that are scanned at a
// time.
TEST(Shard, FindsATokenOutsideTheVocabularyWhereverItStands) {
  const TemporaryFolder folder;
  for (const size_t length : {1, 7, 8, 17, 31, 67, 1024, 1025, 2055}) {
    for (const size_t place : {0, 1, 5, 7, 8, 15, 16, 30, 66, 1023, 1024, 2047, 2048, 2054}) {
      if (place >= length) continue;
      std::vector<uint16_t> tokens(length, 255);
      tokens[place] = 257;
      const auto path = folder.write("a.bin", shard_bytes(tokens));
      EXPECT_EQ(error_message(ExitCode::data, [&] { Shard(path, 257); }),
                fmt::format("{}: token 257 at index {} (byte offset {}) is outside the vocabulary of 257",
                            path.string(), place, 1024 + 2 * place));
      EXPECT_EQ(Shard(path, 258).tokens().size(), length);
    }
  }
}

// A header of 16 tokens and a file of that size are the sound shard that all of these are made from by one
// change.
class BrokenShard : public ::testing::Test {
 protected:
  BrokenShard() : tokens_(16) { std::iota(tokens_.begin(), tokens_.end(), static_cast<uint16_t>(0)); }

  // Both ways in refuse it alike.
  void expect_path_refused(const std::filesystem::path& path, const std::string& message) {
    EXPECT_EQ(error_message(ExitCode::data, [&] { Shard(path, 257); }), message);
    EXPECT_EQ(error_message(ExitCode::data, [&] { Dataset(path.string(), 257, 4); }), message);
  }
  void expect_refused(const std::string& content, const std::string& message) {
    const auto path = folder_.write("broken.bin", content);
    expect_path_refused(path, path.string() + message);
  }

  const TemporaryFolder folder_;
  std::vector<uint16_t> tokens_;
};

TEST_F(BrokenShard, NotBrokenAtAll) {
  const auto path = folder_.write("sound.bin", shard_bytes(tokens_));
  EXPECT_EQ(Shard(path, 257).tokens().size(), 16u);
  EXPECT_EQ(Dataset(path.string(), 257, 4).windows(), 3);
}

TEST_F(BrokenShard, EmptyFile) {
  expect_refused("", ": the file is empty");
}

TEST_F(BrokenShard, TruncatedHeader) {
  for (const size_t size : {1, 3, 4, 12, 1023}) {
    expect_refused(shard_bytes(tokens_).substr(0, size),
                   fmt::format(": the file has {} bytes, less than the 1024 of a shard's header", size));
  }
}

TEST_F(BrokenShard, WrongMagic) {
  expect_refused(shard_bytes(tokens_, 16, 1234),
                 ": not a token shard: it starts with 1234, not 20240520 (byte offset 0)");
  // Raw uint16 tokens without any header, as some other trainers keep them.
  std::string raw;
  for (int i = 0; i < 1000; i++) testing::append_little_endian(raw, 464, 2);
  expect_refused(raw, ": not a token shard: it starts with 30409168, not 20240520 (byte offset 0)");
}

TEST_F(BrokenShard, BigEndian) {
  expect_refused(
      shard_bytes(tokens_, 16, 0x88D83401),
      ": a token shard in big-endian byte order: it starts with -1999096831, not 20240520 (byte offset 0)");
}

TEST_F(BrokenShard, OtherFilesOfTheSameFamilyAreNamed) {
  expect_refused(
      shard_bytes(tokens_, 16, 20240801, 7),
      ": a LLaMA-3 token shard (uint32 tokens), which this version does not read: it starts with 20240801, "
      "not 20240520 (byte offset 0)");
  expect_refused(
      shard_bytes(tokens_, 16, 20240522),
      ": a multiple-choice evaluation set, not training text: it starts with 20240522, not 20240520 (byte "
      "offset 0)");
  expect_refused(
      shard_bytes(tokens_, 16, 20240326),
      ": a model file of llm.c, not tokens: it starts with 20240326, not 20240520 (byte offset 0)");
  expect_refused(
      shard_bytes(tokens_, 16, 20240327),
      ": a debug state of llm.c, not tokens: it starts with 20240327, not 20240520 (byte offset 0)");
  expect_refused(
      shard_bytes(tokens_, 0, 0, 0),
      ": an unfinished shard (its header is still empty): it starts with 0, not 20240520 (byte offset 0)");
}

TEST_F(BrokenShard, WrongVersion) {
  expect_refused(shard_bytes(tokens_, 16, 20240520, 2),
                 ": shard version 2 at byte offset 4; this program reads version 1");
}

TEST_F(BrokenShard, NegativeCount) {
  expect_refused(shard_bytes(tokens_, -16), ": a count of -16 tokens at byte offset 8");
}

TEST_F(BrokenShard, CountLargerThanTheFile) {
  expect_refused(
      shard_bytes(tokens_, 17),
      ": the header counts 17 tokens, which makes 1058 bytes, but the file has 1056: 2 bytes are missing");
  expect_refused(
      shard_bytes(tokens_, 2147483647),
      ": the header counts 2147483647 tokens, which makes 4294968318 bytes, but the file has 1056: "
      "4294967262 bytes are missing");
  expect_refused(
      shard_bytes(tokens_).substr(0, 1055),  // cut in the middle of a token
      ": the header counts 16 tokens, which makes 1056 bytes, but the file has 1055: 1 bytes are missing");
}

TEST_F(BrokenShard, FileLongerThanTheHeaderSays) {
  expect_refused(
      shard_bytes(tokens_, 10),
      ": the header counts 10 tokens, which makes 1044 bytes, but the file has 1056: 12 bytes too many");
}

TEST_F(BrokenShard, TokenOutsideTheVocabulary) {
  tokens_[11] = 257;
  tokens_[13] = 65535;
  expect_refused(shard_bytes(tokens_),
                 ": token 257 at index 11 (byte offset 1046) is outside the vocabulary of 257");
}

TEST_F(BrokenShard, FolderInsteadOfAFile) {
  expect_path_refused(folder_.path(), folder_.path().string() + " is not a regular file");
}

TEST_F(BrokenShard, MissingFile) {
  expect_path_refused(folder_ / "none.bin", fmt::format("cannot open {}/none.bin: No such file or directory",
                                                        folder_.path().string()));
}

TEST_F(BrokenShard, NoMatchForAPattern) {
  folder_.write("train_1.bin", shard_bytes(tokens_));
  const std::string folder = folder_.path().string();
  EXPECT_EQ(error_message(ExitCode::data, [&] { Dataset(folder + "/validation_*.bin", 257, 4); }),
            "no file matches " + folder + "/validation_*.bin");
  EXPECT_EQ(error_message(ExitCode::data, [&] { Dataset(folder + "/none/train_*.bin", 257, 4); }),
            "no file matches " + folder + "/none/train_*.bin (No such file or directory)");
}

TEST_F(BrokenShard, TooFewTokensForOneWindow) {
  const std::string path = folder_.write("a.bin", shard_bytes(tokens_)).string();
  EXPECT_EQ(Dataset(path, 257, 15).windows(), 1);
  EXPECT_EQ(error_message(ExitCode::data, [&] { Dataset(path, 257, 16); }),
            path + " holds 16 tokens in 1 file, but one window of 16 needs 17");
}

}  // namespace
}  // namespace kiln::data
