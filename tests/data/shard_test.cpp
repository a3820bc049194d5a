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

std::vector<int32_t> tokens_of(const Shard& shard) {
  std::vector<int32_t> tokens(static_cast<size_t>(shard.tokens()));
  shard.read(0, shard.tokens(), tokens.data());
  return tokens;
}

TEST(ShardWriter, WritesTheFormatOfLlmC) {
  const TemporaryFolder folder;
  const std::vector<int32_t> tokens = {256, 1, 2, 50256, 65535};
  ShardWriter writer(folder / "a.bin", kShard16);
  writer.append(std::span(tokens).first(2));
  writer.append({});
  writer.append(std::span(tokens).subspan(2));
  EXPECT_EQ(writer.tokens(), 5);
  EXPECT_FALSE(std::filesystem::exists(folder / "a.bin")) << "an unfinished shard bears its final name";
  writer.close();
  EXPECT_EQ(content_of(folder / "a.bin"), shard_bytes({256, 1, 2, 50256, 65535}));
  EXPECT_FALSE(std::filesystem::exists(folder / "a.bin.tmp"));
  EXPECT_EQ(tokens_of(Shard(folder / "a.bin", 65536)), tokens);
}

TEST(ShardWriter, LargeVocabulariesTakeFourBytes) {
  EXPECT_EQ(shard_format(65536).token_bytes, 2);
  EXPECT_EQ(shard_format(65537).token_bytes, 4);
  const TemporaryFolder folder;
  const std::vector<int32_t> tokens = {128000, 1, 65536, 127999};
  ShardWriter writer(folder / "a.bin", kShard32);
  writer.append(tokens);
  writer.close();
  std::string expected = shard_bytes({}, 4, 20240801, 7);
  for (const int32_t token : tokens) testing::append_little_endian(expected, static_cast<uint32_t>(token), 4);
  EXPECT_EQ(content_of(folder / "a.bin"), expected);
  const Shard shard(folder / "a.bin", 128001);
  EXPECT_EQ(tokens_of(shard), tokens);
  shard.verify();
  int32_t middle[2];
  shard.read(1, 2, middle);
  EXPECT_EQ(middle[1], 65536);
  EXPECT_EQ(
      error_message(ExitCode::data, [&] { Shard(folder / "a.bin", 128000).verify(); }),
      fmt::format("{}/a.bin: token 128000 at index 0 (byte offset 1024) is outside the vocabulary of 128000",
                  folder.path().string()));
  // What a signed reader would take for a small number.
  std::string negative = shard_bytes({}, 1, 20240801, 7);
  testing::append_little_endian(negative, 0xFFFFFFFF, 4);
  EXPECT_EQ(
      error_message(ExitCode::data, [&] { tokens_of(Shard(folder.write("b.bin", negative), 128000)); }),
      fmt::format(
          "{}/b.bin: token 4294967295 at index 0 (byte offset 1024) is outside the vocabulary of 128000",
          folder.path().string()));
}

TEST(ShardWriter, AnInterruptedOneIsContinuedWhereverItWasCut) {
  const TemporaryFolder folder;
  std::vector<int32_t> tokens(1000);
  std::iota(tokens.begin(), tokens.end(), 0);
  for (const ShardFormat& format : {kShard16, kShard32}) {
    ShardWriter whole(folder / "whole.bin", format);
    whole.append(tokens);
    whole.close();
    for (const size_t done : {1, 2, 500, 999, 1000}) {
      {
        ShardWriter writer(folder / "a.bin", format);
        writer.append(tokens);
        writer.sync();
      }
      ShardWriter writer(folder / "a.bin", format, static_cast<int64_t>(done));
      writer.append(std::span(tokens).subspan(done));
      writer.close();
      EXPECT_EQ(content_of(folder / "a.bin"), content_of(folder / "whole.bin"));
      std::filesystem::remove(folder / "a.bin");
    }
  }
  {
    ShardWriter writer(folder / "b.bin", kShard16);
    writer.append(tokens);
    writer.sync();
  }
  EXPECT_EQ(error_message(ExitCode::data, [&] { ShardWriter(folder / "b.bin", kShard16, 1001); }),
            fmt::format("{}/b.bin.tmp has 3024 bytes, less than the 3026 that were written to it",
                        folder.path().string()));
}

TEST(ShardWriter, AnEmptyShardIsAShard) {
  const TemporaryFolder folder;
  ShardWriter(folder / "a.bin", kShard16).close();
  EXPECT_EQ(Shard(folder / "a.bin", 1).tokens(), 0);
}

TEST(ShardWriter, SaysWhereItCannotWrite) {
  const TemporaryFolder folder;
  EXPECT_EQ(
      error_message(ExitCode::data, [&] { ShardWriter writer(folder / "none/a.bin", kShard16); }),
      fmt::format("cannot create {}/none/a.bin.tmp: No such file or directory", folder.path().string()));
}

// /dev/full takes nothing, with the error of a full disk.
TEST(ShardWriter, AFullDiskIsNamed) {
  const TemporaryFolder folder;
  std::filesystem::create_symlink("/dev/full", folder / "a.bin.tmp");
  try {
    ShardWriter writer(folder / "a.bin", kShard16);
    writer.append(std::vector<int32_t>(10, 1));
    writer.close();
    FAIL() << "written to a full disk";
  } catch (const Error& error) {
    EXPECT_EQ(error.what(),
              fmt::format("cannot write {}/a.bin.tmp: No space left on device", folder.path().string()));
    EXPECT_EQ(error.hint(), "free some space on that disk, or write to another one");
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "a.bin"));
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
      const std::string message =
          fmt::format("{}: token 257 at index {} (byte offset {}) is outside the vocabulary of 257",
                      path.string(), place, 1024 + 2 * place);
      const Shard shard(path, 257);
      EXPECT_EQ(error_message(ExitCode::data, [&] { shard.verify(); }), message);
      EXPECT_EQ(error_message(ExitCode::data, [&] { tokens_of(shard); }), message);
      int32_t token = 0;
      const auto index = static_cast<int64_t>(place);
      EXPECT_EQ(error_message(ExitCode::data, [&] { shard.read(index, 1, &token); }), message);
      if (index > 0) shard.read(index - 1, 1, &token);  // what is not read is not checked
      const Shard larger(path, 258);
      larger.verify();
      EXPECT_EQ(tokens_of(larger).size(), length);
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
  EXPECT_EQ(Shard(path, 257).tokens(), 16);
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

TEST_F(BrokenShard, TokenOutsideTheVocabularyIsRefusedWhenItIsRead) {
  tokens_[11] = 257;
  tokens_[13] = 65535;
  const auto path = folder_.write("broken.bin", shard_bytes(tokens_));
  const std::string message =
      path.string() + ": token 257 at index 11 (byte offset 1046) is outside the vocabulary of 257";
  EXPECT_EQ(error_message(ExitCode::data, [&] { Shard(path, 257).verify(); }), message);
  const Dataset dataset(path.string(), 257, 5);
  int32_t inputs[5], targets[5];
  dataset.read_window(0, inputs, targets);
  dataset.read_window(1, inputs, targets);
  EXPECT_EQ(error_message(ExitCode::data, [&] { dataset.read_window(2, inputs, targets); }), message);
}

TEST_F(BrokenShard, LargeTokensInAFileOfSmallOnes) {
  expect_refused(
      shard_bytes(tokens_, 16, 20240801, 7),
      ": the header counts 16 tokens, which makes 1088 bytes, but the file has 1056: 32 bytes are missing");
  expect_refused(shard_bytes(tokens_, 16, 20240801, 1),
                 ": shard version 1 at byte offset 4; this program reads version 7");
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
