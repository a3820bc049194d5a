// Preparations that stop somewhere and go on.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "data/bpe.h"
#include "data/prepare.h"
#include "data/tokenizer_files.h"
#include "data/train_bpe.h"
#include "tests/core/temporary_folder.h"
#include "tests/data/texts.h"

namespace kiln::data {
namespace {

namespace fs = std::filesystem;
using kiln::testing::content_of;
using kiln::testing::error_message;
using kiln::testing::TemporaryFolder;

struct Killed {};

class PrepareResume : public ::testing::Test {
 protected:
  PrepareResume() {
    testing::TextSource source(11);
    std::string a, b;
    for (int i = 0; i < 60; i++) {
      // One in seven is a duplicate, one in eleven empty.
      const std::string text = i % 7 == 6     ? "the same again"
                               : i % 11 == 10 ? ""
                                              : "text " + std::to_string(source.draw(1 << 30)) +
                                                    std::string(source.draw(300), 'x');
      (i < 40 ? a : b) += nlohmann::json{{"text", text}}.dump() + (i % 5 ? "\n" : "\n\n");
    }
    inputs_ = {folder_.write("a.jsonl", a).string(), folder_.write("long.txt", source.mixed(5000)).string(),
               folder_.write("empty.txt", "").string(), folder_.write("b.jsonl", b).string()};
    folder_.write("tokenizer.json", tokenizer_json(train_bpe(count_pretokens({.inputs = inputs_}, 1), 300)));
  }

  PrepareOptions options(const std::string& name) const {
    PrepareOptions o;
    o.read.inputs = inputs_;
    o.read.text_document_bytes = 700;
    o.folder = folder_ / name;
    o.tokenizer = (folder_ / "tokenizer.json").string();
    o.shard_tokens = 1000;
    o.validation_fraction = 0.1;
    o.journal_bytes = 900;
    o.threads = 2;
    return o;
  }

  // False when it was killed at its `at`-th report of progress.
  static bool prepare_until(const PrepareOptions& o, int at, PrepareSummary* summary = nullptr) {
    int reports = 0;
    try {
      const PrepareSummary result = prepare(o, [&](const PrepareProgress&) {
        if (++reports == at) throw Killed{};
      });
      if (summary) *summary = result;
      return true;
    } catch (const Killed&) {
      return false;
    }
  }

  static std::map<std::string, std::string> contents(const fs::path& folder) {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::directory_iterator(folder))
      files[entry.path().filename().string()] = content_of(entry.path());
    return files;
  }

  const TemporaryFolder folder_;
  std::vector<std::string> inputs_;
};

TEST_F(PrepareResume, EndsWithTheSameBytesWhereverItWasKilled) {
  struct Case {
    double validation;
    bool keep;
    int step;
  };
  // 1e-9: the document that came nearest waits to the end.
  for (const auto& [validation, keep, step] :
       {Case{0.1, false, 1}, Case{0.0, true, 4}, Case{1e-9, false, 4}}) {
    auto whole = options("whole");
    whole.validation_fraction = validation;
    whole.keep_duplicates = keep;
    whole.overwrite = true;
    prepare(whole);
    const auto expected = contents(whole.folder);
    EXPECT_GE(expected.size(), 4u);
    for (int at = 1;; at += step) {
      auto o = whole;
      o.folder = folder_ / "killed";
      o.overwrite = false;
      fs::remove_all(o.folder);
      PrepareSummary summary;
      if (prepare_until(o, at, &summary)) {
        EXPECT_GT(at, 10) << "too few places to be killed at";
        break;
      }
      EXPECT_FALSE(fs::exists(o.folder / "dataset.json"));
      prepare_until(o, 2);  // once more, a bit later
      o.threads = 1;
      ASSERT_TRUE(prepare_until(o, 1000, &summary));
      EXPECT_EQ(contents(o.folder), expected) << "killed at report " << at;
      EXPECT_EQ(summary.resumed_bytes > 0, at > 2) << at;
    }
  }
}

// What a power failure leaves is at least what was synced, but there may be anything after it.
TEST_F(PrepareResume, WhatComesAfterTheLastEntryIsOfNoAccount) {
  auto o = options("out");
  prepare(o);
  const auto expected = contents(o.folder);
  fs::remove_all(o.folder);
  ASSERT_FALSE(prepare_until(o, 6));
  for (const auto& entry : fs::directory_iterator(o.folder)) {
    if (entry.path().extension() == ".tmp" || entry.path().extension() == ".documents") {
      std::ofstream(entry.path(), std::ios::binary | std::ios::app) << "garbage";
    }
  }
  folder_.write("out/train_000055.bin", "garbage");
  folder_.write("out/train_000056.bin.tmp", "garbage");
  prepare(o);
  EXPECT_EQ(contents(o.folder), expected);
}

TEST_F(PrepareResume, OtherOptionsOrInputsDoNotGoOn) {
  auto o = options("out");
  ASSERT_FALSE(prepare_until(o, 5));
  const auto refusal = [&](auto change) {
    auto other = o;
    change(other);
    return error_message(ExitCode::usage, [&] { prepare(other); });
  };
  const std::string message =
      o.folder.string() + " holds the unfinished dataset of a run with other options or inputs ";
  EXPECT_EQ(refusal([](auto& p) { p.shard_tokens = 1001; }), message + "(shard_tokens)");
  EXPECT_EQ(refusal([](auto& p) { p.tokenizer = "bytes"; }), message + "(tokenizer)");
  EXPECT_EQ(refusal([](auto& p) { p.read.inputs.pop_back(); }), message + "(inputs)");
  EXPECT_EQ(refusal([](auto& p) {
              p.keep_duplicates = true;
              p.validation_fraction = 0;
            }),
            message + "(validation_fraction, keep_duplicates)");
  auto moved = o;  // the same tokenizer under another name
  fs::copy_file(folder_ / "tokenizer.json", folder_ / "copy.json");
  moved.tokenizer = (folder_ / "copy.json").string();
  PrepareSummary summary;
  ASSERT_TRUE(prepare_until(moved, 1000, &summary));
  EXPECT_GT(summary.resumed_bytes, 0);
}

TEST_F(PrepareResume, AnUnfinishedDatasetThatIsDamagedIsReplacedOnlyWhenAsked) {
  for (const char* lost : {"preparing.documents", "train_000001.bin"}) {
    auto o = options(lost);
    ASSERT_FALSE(prepare_until(o, 8));
    ASSERT_TRUE(fs::exists(o.folder / lost)) << lost;
    fs::resize_file(o.folder / lost, 10);
    EXPECT_EQ(error_message(ExitCode::data, [&] { prepare(o); }).substr(o.folder.string().size()),
              " has lost some of the unfinished dataset that an interrupted run left");
    o.overwrite = true;
    EXPECT_EQ(prepare(o).resumed_bytes, 0);
  }
  auto o = options("journal");
  ASSERT_FALSE(prepare_until(o, 8));
  folder_.write("journal/preparing.json", "{");
  EXPECT_TRUE(error_message(ExitCode::usage, [&] {
                prepare(o);
              }).starts_with(o.folder.string() + " holds the unfinished dataset"));
}

TEST_F(PrepareResume, OneAtATime) {
  const auto o = options("out");
  std::string message;
  prepare(o, [&](const PrepareProgress&) {
    if (message.empty()) message = error_message(ExitCode::usage, [&] { prepare(o); });
  });
  EXPECT_EQ(message, "another kiln data prepare is at work in " + o.folder.string());
}

TEST_F(PrepareResume, AnInputThatChangesMeanwhileIsNamed) {
  const auto o = options("out");
  EXPECT_EQ(error_message(ExitCode::data,
                          [&] {
                            prepare(o, [&](const PrepareProgress& p) {
                              if (p.bytes_done == p.bytes_total)
                                std::ofstream(inputs_[0], std::ios::app) << "\n";
                            });
                          }),
            inputs_[0] + " changed while it was read");
  EXPECT_TRUE(fs::is_empty(o.folder));
}

// Everything that is written to the folder fails as on a full disk.
TEST_F(PrepareResume, AFullDiskIsNamedAndTheRunGoesOnLater) {
  const auto o = options("out");
  ASSERT_FALSE(prepare_until(o, 6));
  const auto kept = contents(o.folder);
  fs::path open_shard;
  for (const auto& [name, content] : kept) {
    if (name.starts_with("train") && name.ends_with(".tmp")) open_shard = o.folder / name;
  }
  ASSERT_FALSE(open_shard.empty());
  fs::create_symlink("/dev/full", o.folder / "preparing.json.tmp");
  try {
    prepare(o);
    FAIL() << "written to a full disk";
  } catch (const Error& error) {
    EXPECT_EQ(error.what(),
              fmt::format("cannot write {}/preparing.json.tmp: No space left on device", o.folder.string()));
    EXPECT_EQ(error.hint(),
              "free some space on that disk, or write to another one; the same command goes on where this "
              "one stopped");
  }
  fs::remove(o.folder / "preparing.json.tmp");
  PrepareSummary summary;
  ASSERT_TRUE(prepare_until(o, 1000, &summary));
  EXPECT_GT(summary.resumed_bytes, 0);
  auto whole = options("whole");
  prepare(whole);
  EXPECT_EQ(contents(o.folder), contents(whole.folder));
}

TEST_F(PrepareResume, ThreadsAndJournalDoNotMatter) {
  auto o = options("one");
  o.threads = 1;
  prepare(o);
  const auto expected = contents(o.folder);
  for (const auto& [threads, journal] : {std::pair(3, 1), std::pair(4, 1 << 20), std::pair(1, 5000)}) {
    o.folder = folder_ / "other";
    fs::remove_all(o.folder);
    o.threads = threads;
    o.journal_bytes = journal;
    prepare(o);
    EXPECT_EQ(contents(o.folder), expected);
  }
}

}  // namespace
}  // namespace kiln::data
