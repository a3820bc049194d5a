#include "data/inspect.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data/prepare.h"
#include "data/tokenizer_files.h"
#include "data/train_bpe.h"
#include "tests/core/temporary_folder.h"
#include "tests/data/shards.h"

namespace kiln::data {
namespace {

namespace fs = std::filesystem;
using kiln::testing::content_of;
using kiln::testing::error_message;
using kiln::testing::TemporaryFolder;
using testing::shard_bytes;

class Inspect : public ::testing::Test {
 protected:
  // A dataset of 100 documents with a vocabulary of its own.
  Inspect() {
    std::string jsonl;
    for (int i = 0; i < 100; i++)
      jsonl += nlohmann::json{{"text", "some words and the number " + std::to_string(i)}}.dump() + "\n";
    const std::string input = folder_.write("a.jsonl", jsonl).string();
    fs::create_directory(out());
    folder_.write("out/tokenizer.json",
                  tokenizer_json(train_bpe(count_pretokens({.inputs = {input}}, 1), 280)));
    PrepareOptions options;
    options.read.inputs = {input};
    options.folder = out();
    options.tokenizer = (out() / "tokenizer.json").string();
    options.shard_tokens = 300;
    options.validation_fraction = 0.1;
    summary_ = prepare(options);
  }

  fs::path out() const { return folder_ / "out"; }
  Inspection inspected(bool verify = false) const {
    return inspect({.path = out(), .tokenizer = "", .verify = verify});
  }
  std::string refusal(bool verify = false) const {
    return error_message(ExitCode::data, [&] { inspected(verify); });
  }

  const TemporaryFolder folder_;
  PrepareSummary summary_;
};

TEST_F(Inspect, TellsWhatPrepareDid) {
  const Inspection found = inspected(true);
  EXPECT_TRUE(found.verified);
  EXPECT_EQ(found.tokenizer, "bpe-280");
  EXPECT_EQ(found.end_of_text, 279);
  EXPECT_FALSE(found.end_of_text_guessed);
  ASSERT_TRUE(found.description);
  EXPECT_EQ(found.description->train, summary_.train);
  EXPECT_EQ(found.description->validation, summary_.validation);
  EXPECT_EQ(found.shards.size(), summary_.train.shards.size() + summary_.validation.shards.size());
  int64_t tokens = 0, documents = 0;
  for (const auto& shard : found.shards) {
    tokens += shard.tokens;
    documents += shard.documents;
  }
  EXPECT_EQ(documents, 100);
  EXPECT_EQ(tokens, summary_.train.tokens + summary_.validation.tokens);
  ASSERT_EQ(found.frequent.size(), 10u);
  for (size_t i = 1; i < found.frequent.size(); i++)
    EXPECT_LE(found.frequent[i].count, found.frequent[i - 1].count);
  EXPECT_GE(found.frequent[0].count, 100);
  ASSERT_EQ(found.texts.size(), 2u);
  EXPECT_EQ(found.texts[0].first, "train_000001.bin");
  EXPECT_TRUE(found.texts[0].second.starts_with("\n\nsome words and the number ")) << found.texts[0].second;
}

TEST_F(Inspect, AMovedFolderTakesItsTokenizerWithIt) {
  fs::rename(out(), folder_ / "moved");
  EXPECT_EQ(inspect({.path = folder_ / "moved", .tokenizer = ""}).tokenizer, "bpe-280");
  fs::rename(folder_ / "moved/tokenizer.json", folder_ / "elsewhere.json");
  const Inspection found = inspect({.path = folder_ / "moved", .tokenizer = ""});
  EXPECT_EQ(found.tokenizer, "");
  EXPECT_TRUE(found.tokenizer_problem.starts_with("there is no tokenizer")) << found.tokenizer_problem;
  EXPECT_EQ(found.end_of_text, 279);
  EXPECT_TRUE(found.texts.empty());
  EXPECT_EQ(
      inspect({.path = folder_ / "moved", .tokenizer = (folder_ / "elsewhere.json").string()}).tokenizer,
      "bpe-280");
  const Inspection other = inspect({.path = folder_ / "moved", .tokenizer = "bytes"});
  EXPECT_EQ(other.tokenizer_problem, "bytes is not the tokenizer that the shards were made with");
}

TEST_F(Inspect, DamageIsFound) {
  const fs::path shard = out() / "train_000002.bin";
  const std::string content = content_of(shard);
  std::string changed = content;
  changed[1100] = static_cast<char>(changed[1100] ^ 1);  // another token of the vocabulary
  folder_.write("out/train_000002.bin", changed);
  inspected();
  EXPECT_TRUE(refusal(true).starts_with(shard.string() + " has the checksum ")) << refusal(true);
  changed[1101] = 120;  // 120 * 256: far outside
  folder_.write("out/train_000002.bin", changed);
  EXPECT_EQ(refusal(),
            fmt::format("{}: token {} at index 38 (byte offset 1100) is outside the vocabulary of 280",
                        shard.string(), 120 * 256 + static_cast<unsigned char>(changed[1100])));
  folder_.write("out/train_000002.bin", shard_bytes({279, 1, 2}));
  EXPECT_EQ(refusal(), shard.string() + " has 3 tokens, but dataset.json counts 300");
  std::string without_documents = content;  // end-of-text overwritten by something else
  for (size_t i = 1024; i < content.size(); i += 2) {
    if (static_cast<unsigned char>(content[i]) == (279 & 255) && content[i + 1] == 1)
      without_documents[i] = 0;
  }
  ASSERT_NE(without_documents, content);
  folder_.write("out/train_000002.bin", without_documents);
  EXPECT_TRUE(refusal().starts_with("the shards of the train split hold ")) << refusal();
  fs::remove(shard);
  EXPECT_EQ(refusal(), out().string() + " lacks train_000002.bin, which dataset.json lists");
}

TEST(InspectShards, NeedNoDescription) {
  const TemporaryFolder folder;
  const auto path = folder.write("fineweb_val_000000.bin", shard_bytes({50256, 7, 7, 50256, 8}));
  const Inspection found = inspect({.path = path, .tokenizer = ""});
  EXPECT_FALSE(found.description);
  EXPECT_EQ(found.end_of_text, 50256);
  EXPECT_TRUE(found.end_of_text_guessed);
  ASSERT_EQ(found.shards.size(), 1u);
  EXPECT_EQ(found.shards[0].documents, 2);
  ASSERT_EQ(found.frequent.size(), 3u);
  EXPECT_EQ(found.frequent[0].token, 7);
  EXPECT_EQ(found.frequent[1].token, 50256);
  EXPECT_EQ(inspect({.path = folder.path(), .tokenizer = ""}).shards.size(), 1u);
}

TEST(InspectShards, WhatIsNoneIsRefused) {
  const TemporaryFolder folder;
  const std::string path = folder.path().string();
  EXPECT_EQ(error_message(ExitCode::data, [&] { inspect({.path = folder.path(), .tokenizer = ""}); }),
            path + " holds no shards (*.bin)");
  EXPECT_EQ(error_message(ExitCode::data, [&] { inspect({.path = folder / "none", .tokenizer = ""}); }),
            "there is no " + path + "/none");
  folder.write("a.bin", "x");
  EXPECT_EQ(error_message(ExitCode::data, [&] { inspect({.path = folder.path(), .tokenizer = ""}); }),
            path + "/a.bin: the file has 1 bytes, less than the 1024 of a shard's header");
}

}  // namespace
}  // namespace kiln::data
