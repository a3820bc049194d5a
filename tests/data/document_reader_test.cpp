#include "data/document_reader.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "tests/core/temporary_folder.h"

namespace kiln::data {
namespace {

using kiln::testing::error_message;
using kiln::testing::TemporaryFolder;

std::vector<Record> read_all(DocumentReader& reader, int64_t bytes) {
  std::vector<Record> records;
  while (reader.read(bytes, records)) {
  }
  return records;
}

std::vector<std::string> texts_of(const ReadOptions& options) {
  DocumentReader reader(options);
  std::vector<std::string> texts;
  for (auto& record : read_all(reader, 10)) texts.push_back(reader.text_of(std::move(record)));
  return texts;
}

TEST(DocumentReader, EveryPositionIsAPlaceToGoOnFrom) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 300; i++) text += "paragraph " + std::to_string(i * i) + (i % 3 ? "\n" : "\n\n");
  const ReadOptions options{
      .inputs = {folder.write("a.jsonl", "\n{\"text\": \"one\"}\n  \n{\"text\": \"two\"}\r\n\n").string(),
                 folder.write("b.txt", text).string(), folder.write("c.txt", "").string(),
                 folder.write("d.jsonl", "{\"text\": \"last\"}").string()},
      .text_document_bytes = 200};
  DocumentReader whole(options);
  const auto expected = read_all(whole, 1);
  ASSERT_GT(expected.size(), 20u);
  EXPECT_EQ(whole.bytes_done(), whole.bytes_total());
  EXPECT_EQ(expected[0].position, (ReadPosition{.input = 0, .offset = 1, .line = 1}));
  EXPECT_EQ(expected[1].position, (ReadPosition{.input = 0, .offset = 20, .line = 3}));
  DocumentReader stepping(options);
  for (size_t i = 0; i < expected.size(); i++) {
    DocumentReader from_here(options, stepping.position());
    EXPECT_EQ(from_here.bytes_done(), stepping.bytes_done());
    const auto rest = read_all(from_here, 1000);
    ASSERT_EQ(rest.size(), expected.size() - i);
    for (size_t k = 0; k < rest.size(); k++) {
      ASSERT_EQ(rest[k].bytes, expected[i + k].bytes);
      ASSERT_EQ(rest[k].position, expected[i + k].position);
    }
    const auto& record = expected[i];
    EXPECT_EQ(whole.record_at(record.position, static_cast<int64_t>(record.bytes.size())).bytes,
              record.bytes);
    std::vector<Record> one;
    ASSERT_TRUE(stepping.read(1, one));
    ASSERT_EQ(one.size(), 1u);
  }
}

TEST(DocumentReader, LinesLongerThanTheBuffer) {
  const TemporaryFolder folder;
  const std::string longest(3'000'000, 'x');
  const std::string path =
      folder.write("a.jsonl", "{\"text\": \"" + longest + "\"}\n{\"text\": \"b\"}\n").string();
  EXPECT_EQ(texts_of({.inputs = {path}}), (std::vector<std::string>{longest, "b"}));
}

TEST(DocumentReader, TheFormatCanBeSaid) {
  const TemporaryFolder folder;
  const std::string path = folder.write("a.json", "{\"text\": \"b\"}\n").string();
  EXPECT_EQ(texts_of({.inputs = {path}, .format = "jsonl"}), std::vector<std::string>{"b"});
  EXPECT_EQ(texts_of({.inputs = {path}, .format = "txt"}), std::vector<std::string>{"{\"text\": \"b\"}\n"});
  EXPECT_EQ(error_message(ExitCode::usage, [&] { DocumentReader({.inputs = {path}}); }),
            path + " is neither .jsonl nor .txt");
  EXPECT_EQ(error_message(ExitCode::usage, [&] { DocumentReader({.inputs = {path}, .format = "csv"}); }),
            "unknown format \"csv\"");
  EXPECT_EQ(error_message(ExitCode::usage, [&] { DocumentReader({.inputs = {"-"}}); }),
            "standard input has no name that tells its format");
}

TEST(DocumentReader, PiecesOfTextAreOfGoodSize) {
  const TemporaryFolder folder;
  for (const size_t size : {1, 99, 100, 101, 150, 199, 200, 201, 1000, 12345}) {
    const std::string text(size, 'x');  // nowhere a good place
    const auto pieces =
        texts_of({.inputs = {folder.write("a.txt", text).string()}, .text_document_bytes = 100});
    std::string joined;
    for (const auto& piece : pieces) {
      EXPECT_LE(piece.size(), 100u);
      EXPECT_GE(piece.size(), std::min<size_t>(size, 50));
      joined += piece;
    }
    EXPECT_EQ(joined, text);
  }
}

TEST(DocumentReader, RecordsBeyondReasonAreRefused) {
  const TemporaryFolder folder;
  ReadOptions options{
      .inputs = {
          folder.write("a.jsonl", "{\"text\": \"\"}\n" + std::string(1'000'000, 'x') + "\n").string()}};
  options.longest_record_bytes = 999'999;
  EXPECT_EQ(error_message(ExitCode::data, [&] { texts_of(options); }),
            options.inputs[0] + ", line 2 (byte offset 13): a line of more than 999999 bytes");
  options.inputs = {folder.write("b.txt", std::string(1'000'000, 'x')).string()};
  EXPECT_EQ(texts_of(options).size(), 20u) << "cut into pieces";
  options.text_document_bytes = 0;
  EXPECT_EQ(error_message(ExitCode::data, [&] { texts_of(options); }),
            options.inputs[0] + ", line 1 (byte offset 0): a text of more than 999999 bytes");
  options.longest_record_bytes = 1'000'000;
  EXPECT_EQ(texts_of(options).size(), 1u);
  options.inputs = {folder.write("c.jsonl", "{\"text\": \"" + std::string(999'988, 'x') + "\"}").string()};
  EXPECT_EQ(texts_of(options).size(), 1u) << "exactly as long as allowed";
}

TEST(DocumentReader, WhatCannotBeReadIsNamed) {
  const TemporaryFolder folder;
  EXPECT_EQ(
      error_message(ExitCode::data, [&] { DocumentReader({.inputs = {(folder / "none.txt").string()}}); }),
      fmt::format("cannot read {}/none.txt: No such file or directory", folder.path().string()));
  std::filesystem::create_directory(folder / "folder.txt");
  EXPECT_EQ(error_message(ExitCode::data, [&] { texts_of({.inputs = {(folder / "folder.txt").string()}}); }),
            fmt::format("{}/folder.txt is a folder", folder.path().string()));
}

// A sparse file: a hole, then one line past what 32 bits can count, read from there and named by its offset.
TEST(DocumentReader, FilesOfMoreThanFourGibibytes) {
  const TemporaryFolder folder;
  constexpr int64_t kOffset = (int64_t{1} << 32) + 12345;
  const auto path = folder.write("big.jsonl", "");
  std::filesystem::resize_file(path, kOffset);
  std::ofstream(path, std::ios::app) << "{\"text\": \"far\"}\n{\"text\": 5}\n";
  const ReadOptions options{.inputs = {path.string()}};
  DocumentReader reader(options, {.input = 0, .offset = kOffset, .line = 7});
  EXPECT_EQ(reader.bytes_total(), kOffset + 28);
  EXPECT_EQ(reader.bytes_done(), kOffset);
  auto records = read_all(reader, 1);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(reader.text_of(records[0]), "far");
  EXPECT_EQ(error_message(ExitCode::data, [&] { reader.text_of(records[1]); }),
            fmt::format("{}, line 9, column 1 (byte offset {}): \"text\" is number instead of a string",
                        path.string(), kOffset + 16));
}

TEST(DocumentReader, ByteOrderMarksAreNamed) {
  const TemporaryFolder folder;
  const auto file = [&](const char* name, std::string_view bytes) {
    write_file_atomically(folder.path() / name, std::string(bytes));
    return (folder.path() / name).string();
  };
  const std::vector<std::string> found =
      byte_order_marks({file("plain.txt", "text"), file("empty.txt", ""), file("short.txt", "\xEF\xBB"),
                        file("little.txt", "\xFF\xFEt"), file("big.txt", "\xFE\xFF"),
                        file("utf8.txt", "\xEF\xBB\xBFtext"), "-", "not-there.txt"});
  ASSERT_EQ(found.size(), 3u);
  EXPECT_TRUE(found[0].find("little.txt looks like UTF-16") != std::string::npos) << found[0];
  EXPECT_TRUE(found[1].find("big.txt looks like UTF-16") != std::string::npos) << found[1];
  EXPECT_TRUE(found[2].find("utf8.txt begins with a byte order mark") != std::string::npos) << found[2];
}

// A pipe under the descriptor of standard input, written to in small parts.
TEST(DocumentReader, StandardInputIsReadAsItComes) {
  std::string jsonl;
  std::vector<std::string> expected;
  for (int i = 0; i < 2000; i++) {
    expected.push_back("document " + std::to_string(i));
    jsonl += "{\"text\": \"" + expected.back() + "\"}\n";
  }
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const int saved = ::dup(STDIN_FILENO);
  ASSERT_EQ(::dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
  ::close(ends[0]);
  std::thread writer([&] {
    for (size_t i = 0; i < jsonl.size(); i += 777) {
      const size_t n = std::min<size_t>(777, jsonl.size() - i);
      EXPECT_EQ(::write(ends[1], jsonl.data() + i, n), static_cast<ssize_t>(n));
    }
    ::close(ends[1]);
  });
  DocumentReader reader({.inputs = {"-"}, .format = "jsonl"});
  EXPECT_EQ(reader.bytes_total(), -1);
  std::vector<std::string> texts;
  for (auto& record : read_all(reader, 100)) texts.push_back(reader.text_of(std::move(record)));
  writer.join();
  ::dup2(saved, STDIN_FILENO);
  ::close(saved);
  EXPECT_EQ(texts, expected);
}

}  // namespace
}  // namespace kiln::data
