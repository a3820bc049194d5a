#include "data/prepare.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "data/dataset.h"
#include "data/shard.h"
#include "data/tokenizer.h"
#include "src/core/checksum.h"
#include "tests/core/temporary_folder.h"

namespace kiln::data {
namespace {

namespace fs = std::filesystem;
using kiln::testing::error_message;
using kiln::testing::TemporaryFolder;

constexpr int64_t kVocab = 257;
constexpr int32_t kEndOfText = 256;

std::string json_line(const std::string& text) {
  return nlohmann::json{{"text", text}}.dump() + "\n";
}

// Documents of many lengths; number 17 is the same in every call.
std::string document(int number) {
  std::string text = "Document " + std::to_string(number) + ".";
  for (int i = 0; i < number % 40; i++) text += " More words\nabout it: " + std::to_string(i * number) + ".";
  return text;
}

std::string jsonl(int documents) {
  std::string content;
  for (int i = 0; i < documents; i++) content += json_line(document(i));
  return content;
}

std::vector<int32_t> read_split(const fs::path& folder, const std::string& split, int64_t vocab = kVocab) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with(split + "_")) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::vector<int32_t> row;
  for (const auto& file : files) {
    const Shard shard(file, vocab);
    row.resize(row.size() + static_cast<size_t>(shard.tokens()));
    shard.read(0, shard.tokens(), row.data() + row.size() - shard.tokens());
  }
  return row;
}

// What stands between the end-of-text tokens; the row must begin with one.
std::vector<std::string> documents_of(const fs::path& folder, const std::string& split) {
  std::vector<std::string> documents;
  for (const int32_t token : read_split(folder, split)) {
    if (token == kEndOfText) {
      documents.emplace_back();
    } else if (documents.empty()) {
      ADD_FAILURE() << "the row does not begin with end-of-text";
      documents.emplace_back();
    } else {
      documents.back() += static_cast<char>(token);
    }
  }
  return documents;
}

std::vector<std::string> file_names(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

class Prepare : public ::testing::Test {
 protected:
  PrepareOptions options(const std::vector<fs::path>& inputs) const {
    PrepareOptions o;
    for (const auto& input : inputs) o.read.inputs.push_back(input.string());
    o.folder = folder_ / "out";
    o.threads = 1;
    return o;
  }
  std::string refusal(const PrepareOptions& o, ExitCode code = ExitCode::data) const {
    return error_message(code, [&] { prepare(o); });
  }
  fs::path out() const { return folder_ / "out"; }

  const TemporaryFolder folder_;
};

TEST_F(Prepare, SplitsByDocumentAndKeepsEveryByte) {
  constexpr int kDocuments = 2000;
  const auto summary = prepare(options({folder_.write("a.jsonl", jsonl(kDocuments))}));
  const auto train = documents_of(out(), "train"), validation = documents_of(out(), "validation");
  EXPECT_EQ(summary.train.documents, static_cast<int64_t>(train.size()));
  EXPECT_EQ(summary.validation.documents, static_cast<int64_t>(validation.size()));
  EXPECT_EQ(summary.train.tokens, static_cast<int64_t>(read_split(out(), "train").size()));
  EXPECT_EQ(summary.validation.tokens, static_cast<int64_t>(read_split(out(), "validation").size()));
  EXPECT_EQ(summary.vocab, kVocab);
  EXPECT_EQ(summary.duplicates, 0);
  EXPECT_FALSE(summary.already_there);
  // Binomial(2000, 0.02): 40 expected, standard deviation 6.3, five of them allowed.
  EXPECT_NEAR(static_cast<double>(validation.size()), 40, 32);

  std::multiset<std::string> expected, found(train.begin(), train.end());
  for (int i = 0; i < kDocuments; i++) expected.insert(document(i));
  found.insert(validation.begin(), validation.end());
  EXPECT_EQ(found, expected);
}

TEST_F(Prepare, ADocumentsSplitDependsOnItsTextAlone) {
  auto o = options({folder_.write("all.jsonl", jsonl(2000))});
  prepare(o);
  const auto all = documents_of(out(), "validation");
  std::string some;
  for (int i = 1998; i >= 0; i -= 2) some += json_line(document(i));
  o.read.inputs = {folder_.write("some.jsonl", some).string()};
  o.folder = folder_ / "some";
  prepare(o);
  const auto fewer = documents_of(o.folder, "validation");
  EXPECT_GT(fewer.size(), 5u);
  for (const auto& text : fewer) EXPECT_NE(std::find(all.begin(), all.end(), text), all.end());
}

TEST_F(Prepare, DropsDuplicatesAcrossFilesAndEmptyDocuments) {
  const std::string content = json_line("one") + json_line("two") + json_line("one") + json_line("") +
                              json_line(" \n\t") + json_line("one ");
  auto o = options(
      {folder_.write("a.jsonl", content), folder_.write("b.jsonl", content), folder_.write("c.txt", "two")});
  o.validation_fraction = 0;
  const auto summary = prepare(o);
  EXPECT_EQ(summary.train.documents, 3);
  EXPECT_EQ(summary.duplicates, 1 + 4 + 1);
  EXPECT_EQ(summary.empty, 4);
  EXPECT_EQ(documents_of(out(), "train"), (std::vector<std::string>{"one", "two", "one "}));
  EXPECT_EQ(file_names(out()), (std::vector<std::string>{"dataset.json", "train_000001.bin"}));
}

TEST_F(Prepare, ShardsAreFullAndNumberedAsInLlmC) {
  auto o =
      options({folder_.write("a.jsonl", json_line("abcdefgh") + json_line("ij") + json_line("klmnopqrs"))});
  o.shard_tokens = 5;
  o.validation_fraction = 0;
  const auto summary = prepare(o);
  EXPECT_EQ(summary.train.tokens, 22);
  EXPECT_EQ(summary.train.shards.size(), 5u);
  EXPECT_EQ(documents_of(out(), "train"), (std::vector<std::string>{"abcdefgh", "ij", "klmnopqrs"}));
  for (int i = 1; i <= 4; i++) {
    EXPECT_EQ(Shard(out() / fmt::format("train_00000{}.bin", i), 257).tokens(), 5);
  }
  EXPECT_EQ(Shard(out() / "train_000005.bin", 257).tokens(), 2);
  EXPECT_EQ(Dataset((out() / "train_*.bin").string(), 257, 7).windows(), 3);
}

TEST_F(Prepare, AShardThatIsExactlyFilledLeavesNoEmptyOne) {
  auto o = options({folder_.write("a.jsonl", json_line("abcd") + json_line("efgh"))});
  o.shard_tokens = 5;
  o.validation_fraction = 0;
  EXPECT_EQ(prepare(o).train.shards.size(), 2u);
  EXPECT_EQ(file_names(out()),
            (std::vector<std::string>{"dataset.json", "train_000001.bin", "train_000002.bin"}));
}

TEST_F(Prepare, BothSplitsGetADocument) {
  for (int documents = 2; documents < 30; documents++) {
    auto o = options({folder_.write("a.jsonl", jsonl(documents))});
    o.folder = folder_ / std::to_string(documents);
    const auto summary = prepare(o);
    EXPECT_GE(summary.train.documents, 1);
    EXPECT_GE(summary.validation.documents, 1);
    EXPECT_EQ(summary.train.documents + summary.validation.documents, documents);
    EXPECT_EQ(static_cast<int64_t>(documents_of(o.folder, "train").size()), summary.train.documents);
  }
}

TEST_F(Prepare, TextFilesAreDocuments) {
  auto o =
      options({folder_.write("a.txt", "one\n\ntwo\n"), folder_.write("b.txt", std::string("\0\xff\r\n", 4))});
  o.validation_fraction = 0;
  prepare(o);
  EXPECT_EQ(documents_of(out(), "train"),
            (std::vector<std::string>{"one\n\ntwo\n", std::string("\0\xff\r\n", 4)}));
}

TEST_F(Prepare, LongTextFilesAreCutBetweenParagraphs) {
  std::string text;
  for (int i = 0; i < 3000; i++) text += "This is\nparagraph " + std::to_string(i) + ".\n\n";
  auto o = options({folder_.write("a.txt", text)});
  o.validation_fraction = 0;
  o.overwrite = true;
  for (const size_t limit : {30, 1000, 50000}) {
    o.read.text_document_bytes = static_cast<int64_t>(limit);
    prepare(o);
    const auto pieces = documents_of(out(), "train");
    std::string joined;
    for (const auto& piece : pieces) {
      EXPECT_LE(piece.size(), limit);
      EXPECT_TRUE(piece.starts_with("This is") && piece.ends_with(".\n\n")) << piece;
      joined += piece;
    }
    EXPECT_EQ(joined, text);
    EXPECT_LE(pieces.size(), 2 * (text.size() / limit + 1)) << "pieces much shorter than asked for";
  }
  o.read.text_document_bytes = 0;
  prepare(o);
  EXPECT_EQ(documents_of(out(), "train"), std::vector<std::string>{text});
}

TEST_F(Prepare, CutsBetweenCharacters) {
  std::string text;
  for (int i = 0; i < 400; i++)
    text += fmt::format("{}\xE2\x82\xAC", i);  // no space, no line: only characters
  auto o = options({folder_.write("a.txt", text)});
  o.read.text_document_bytes = 100;
  o.validation_fraction = 0;
  prepare(o);
  std::string joined;
  for (const auto& piece : documents_of(out(), "train")) {
    EXPECT_LE(piece.size(), 100u);
    EXPECT_NE(static_cast<unsigned char>(piece[0]) & 0xC0, 0x80) << "a piece begins inside a character";
    joined += piece;
  }
  EXPECT_EQ(joined, text);
}

TEST_F(Prepare, JsonLinesMayBeBlankEscapedOrWithoutALastNewline) {
  auto o = options({folder_.write(
      "a.jsonl", "\n{\"id\": 1, \"text\": \"a\\u20ac\\n\\\"b\\\"\"}\r\n  \n{\"text\":\"last\"}")});
  o.validation_fraction = 0;
  prepare(o);
  EXPECT_EQ(documents_of(out(), "train"), (std::vector<std::string>{"a\xE2\x82\xAC\n\"b\"", "last"}));
}

TEST_F(Prepare, MalformedJsonIsNamedByLineAndOffset) {
  const std::string good = json_line("fine");  // 16 bytes
  ASSERT_EQ(good.size(), 16u);
  const auto refused = [&](const std::string& line) {
    const auto path = folder_.write("a.jsonl", good + "\n" + line + "\n" + good);
    const std::string message = refusal(options({path}));
    const std::string prefix = path.string() + ", line 3, ";
    EXPECT_TRUE(message.starts_with(prefix)) << message;
    return message.substr(std::min(prefix.size(), message.size()));
  };
  EXPECT_EQ(refused("{\"text\": nonsense}"),
            "column 11 (byte offset 27): syntax error while parsing value - invalid literal");
  EXPECT_EQ(
      refused("{\"text\": \"open"),
      "column 15 (byte offset 31): syntax error while parsing value - invalid string: missing closing quote");
  EXPECT_EQ(refused("{\"text\": \"a\"} x"),
            "column 15 (byte offset 31): syntax error while parsing value - invalid literal");
  EXPECT_EQ(
      refused("{\"text\": \"\xff\"}"),
      "column 11 (byte offset 27): syntax error while parsing value - invalid string: ill-formed UTF-8 byte");
  EXPECT_EQ(refused("{\"content\": \"a\"}"), "column 1 (byte offset 17): the object has no field \"text\"");
  EXPECT_EQ(refused("{\"text\": 5}"), "column 1 (byte offset 17): \"text\" is number instead of a string");
  EXPECT_EQ(refused("[\"text\"]"), "column 1 (byte offset 17): array instead of an object");
  EXPECT_EQ(refused("plain text"),
            "column 1 (byte offset 17): syntax error while parsing value - invalid literal");
  EXPECT_EQ(refused("{\"text\": \"a b c\", \"n\": 1e999}"),
            "column 1 (byte offset 17): number overflow parsing '1e999'");
}

TEST_F(Prepare, InputsThatGiveNothingAreRefused) {
  for (const auto& [name, text] :
       {std::pair("empty.jsonl", std::string()), std::pair("empty.txt", std::string()),
        std::pair("blank.jsonl", "\n\n" + json_line(" "))}) {
    const auto file = folder_.write(name, text);
    EXPECT_EQ(refusal(options({file})), "there is no text in " + file.string());
  }
  EXPECT_EQ(refusal(options({folder_.path()})), folder_.path().string() + " is a folder");
  EXPECT_EQ(refusal(options({folder_.write("one.jsonl", json_line("one"))})),
            "no document is left for training: 1 went to validation");
  EXPECT_EQ(refusal(options({folder_ / "none.txt"})),
            fmt::format("cannot read {}/none.txt: No such file or directory", folder_.path().string()));
  const auto other = folder_.write("a.pdf", "x");
  EXPECT_EQ(refusal(options({other}), ExitCode::usage), other.string() + " is neither .jsonl nor .txt");
  EXPECT_EQ(file_names(out()), std::vector<std::string>{}) << "something is left of a dataset that cannot be";
}

// A single text is cut in two, at the place that suits it, near the share; with the pieces in the order of the text.
TEST_F(Prepare, ASingleTextIsCutInTwo) {
  std::string paragraphs;
  for (int i = 0; i < 300; i++)
    paragraphs +=
        fmt::format("Paragraph {}: {}\n\n", i, std::string(static_cast<size_t>(i % 9 * 20 + 60), 'x'));
  std::string lines;
  for (int i = 0; i < 2000; i++) lines += fmt::format("line {}\n", i);
  std::string words;
  for (int i = 0; i < 2000; i++) words += fmt::format("word{} ", i);
  std::string characters;
  for (int i = 0; i < 3000; i++) characters += "\u4e2d\u6587";
  struct Case {
    const char* name;
    std::string text, separator;
    int64_t document_bytes;
    double fraction;
  };
  int number = 0;
  for (const Case& c : {Case{"paragraphs, two pieces", paragraphs, "\n\n", 25'000, 0.02},
                        {"paragraphs, one piece", paragraphs, "\n\n", 50'000, 0.1},
                        {"paragraphs, whole", paragraphs, "\n\n", 0, 0.5},
                        {"lines", lines, "\n", 50'000, 0.05},
                        {"words", words, " ", 50'000, 0.05},
                        {"characters", characters, "", 50'000, 0.05}}) {
    SCOPED_TRACE(c.name);
    auto o = options({folder_.write(fmt::format("text{}.txt", number), c.text)});
    o.folder = folder_ / fmt::format("single{}", number++);
    o.read.text_document_bytes = c.document_bytes;
    o.validation_fraction = c.fraction;
    const auto summary = prepare(o);
    std::string train, validation;
    for (const auto& text : documents_of(o.folder, "train")) train += text;
    for (const auto& text : documents_of(o.folder, "validation")) validation += text;
    EXPECT_EQ(train + validation, c.text);
    EXPECT_EQ(summary.cut.at, static_cast<int64_t>(train.size()));
    EXPECT_EQ(summary.cut.bytes, static_cast<int64_t>(c.text.size()));
    EXPECT_TRUE(train.ends_with(c.separator));
    // The next separator is at most 300 bytes away.
    EXPECT_NEAR(static_cast<double>(validation.size()), c.fraction * static_cast<double>(c.text.size()), 300);
    EXPECT_NE(static_cast<unsigned char>(validation[0]) & 0xC0, 0x80) << "inside of a character";
    EXPECT_TRUE(prepare(o).already_there);
    EXPECT_EQ(prepare(o).cut.at, summary.cut.at);
  }
}

TEST_F(Prepare, ASingleTextIsLeftWholeWhereChanceServesOrNoValidationIsWanted) {
  std::string text;
  for (int i = 0; i < 3000; i++) text += fmt::format("Paragraph {}.\n\n", i);
  auto o = options({folder_.write("long.txt", text)});
  o.read.text_document_bytes = 500;  // 2 % are more than one of them
  EXPECT_EQ(prepare(o).cut.at, 0);
  o.folder = folder_ / "whole";
  o.read.text_document_bytes = 50'000;
  o.validation_fraction = 0;
  const auto summary = prepare(o);
  EXPECT_EQ(summary.cut.at, 0);
  EXPECT_EQ(summary.validation.documents, 0);
  auto two = options({folder_.write("a.txt", "one text"), folder_.write("b.txt", "another text")});
  two.folder = folder_ / "two";
  EXPECT_EQ(prepare(two).cut.at, 0);
}

// Blank ends belong to neither part's text: a cut there would leave validation with nothing.
TEST_F(Prepare, ASmallTextIsCutInsideOfWhatItSays) {
  int number = 0;
  for (const char* text :
       {"a b", "ab", "\n\n one two \n\n\n\n", "one\n\ntwo", "a\r\n\r\nb\r\n", "\u4e2d\u6587"}) {
    auto o = options({folder_.write(fmt::format("small{}.txt", number), text)});
    o.folder = folder_ / fmt::format("small{}", number++);
    const auto summary = prepare(o);
    EXPECT_EQ(summary.train.documents, 1) << text;
    EXPECT_EQ(summary.validation.documents, 1) << text;
    EXPECT_EQ(documents_of(o.folder, "train")[0] + documents_of(o.folder, "validation")[0], text);
    EXPECT_NE(static_cast<unsigned char>(documents_of(o.folder, "validation")[0][0]) & 0xC0, 0x80)
        << "inside of a character";
  }
  for (const char* text : {"\nx\n", "\u4e2d\n"}) {
    auto o = options({folder_.write("one.txt", text)});
    o.folder = folder_ / "one";
    EXPECT_EQ(refusal(o), fmt::format("{}/one.txt: a text of one character has no part for validation",
                                      folder_.path().string()));
  }
}

TEST_F(Prepare, EmptyFilesDoNotMakeASingleTextTwo) {
  const auto text = folder_.write("text.txt", "one\n\ntwo\n\nthree"), empty = folder_.write("empty.txt", "");
  for (const auto& inputs :
       {std::vector{text, empty}, std::vector{empty, text, folder_.write("none.jsonl", "")}}) {
    auto o = options(inputs);
    o.overwrite = true;
    const auto summary = prepare(o);
    EXPECT_GT(summary.cut.at, 0);
    EXPECT_EQ(documents_of(o.folder, "train")[0] + documents_of(o.folder, "validation")[0],
              "one\n\ntwo\n\nthree");
  }
}

TEST_F(Prepare, OptionsOutOfRangeAreRefused) {
  const auto input = folder_.write("a.jsonl", jsonl(10));
  const auto refused = [&](auto change) {
    PrepareOptions o = options({input});
    change(o);
    return refusal(o, ExitCode::usage);
  };
  EXPECT_EQ(refused([](auto& o) { o.read.inputs.clear(); }), "no input files");
  EXPECT_EQ(refused([](auto& o) { o.validation_fraction = 1; }), "a validation fraction of 1");
  EXPECT_EQ(refused([](auto& o) { o.validation_fraction = -0.1; }), "a validation fraction of -0.1");
  EXPECT_EQ(refused([](auto& o) { o.validation_fraction = std::nan(""); }), "a validation fraction of nan");
  EXPECT_EQ(refused([](auto& o) { o.shard_tokens = 0; }), "shards of 0 tokens");
  EXPECT_EQ(refused([](auto& o) { o.shard_tokens = int64_t{1} << 31; }), "shards of 2147483648 tokens");
  EXPECT_EQ(refused([](auto& o) { o.read.text_document_bytes = -1; }), "documents of -1 bytes");
  EXPECT_FALSE(fs::exists(out()));
}

TEST_F(Prepare, AFolderThatCannotBeMadeIsAnError) {
  auto o = options({folder_.write("a.jsonl", jsonl(10))});
  o.folder = folder_ / "a.jsonl/out";
  EXPECT_EQ(refusal(o), fmt::format("cannot use {}: Not a directory", o.folder.string()));
}

TEST_F(Prepare, TheSameAgainIsRecognised) {
  auto o = options({folder_.write("a.jsonl", jsonl(100))});
  o.shard_tokens = 1000;
  const auto first = prepare(o);
  const auto written = fs::last_write_time(out() / "train_000001.bin");
  const auto second = prepare(o);
  EXPECT_TRUE(second.already_there);
  EXPECT_EQ(second.train.documents, first.train.documents);
  EXPECT_EQ(second.train.tokens, first.train.tokens);
  EXPECT_EQ(second.train.shards, first.train.shards);
  EXPECT_EQ(second.train.bytes, first.train.bytes);
  EXPECT_EQ(second.validation.tokens, first.validation.tokens);
  EXPECT_EQ(fs::last_write_time(out() / "train_000001.bin"), written);
}

TEST_F(Prepare, AnotherDatasetIsReplacedOnlyWhenAsked) {
  auto o = options({folder_.write("a.jsonl", jsonl(100))});
  o.shard_tokens = 1000;
  const auto first = prepare(o);
  const size_t shards = first.train.shards.size() + first.validation.shards.size();
  const std::string message = fmt::format("{} holds another dataset ({} shards)", out().string(), shards);
  o.shard_tokens = 3000;
  EXPECT_EQ(refusal(o, ExitCode::usage), message);
  o.shard_tokens = 1000;
  folder_.write("a.jsonl", jsonl(101));  // the input changed
  EXPECT_EQ(refusal(o, ExitCode::usage), message);
  o.overwrite = true;
  o.shard_tokens = 100'000;
  const auto second = prepare(o);
  EXPECT_FALSE(second.already_there);
  EXPECT_EQ(file_names(out()),
            (std::vector<std::string>{"dataset.json", "train_000001.bin", "validation_000000.bin"}));
}

TEST_F(Prepare, AnInputErrorLeavesNothingBehind) {
  auto o = options({folder_.write("a.jsonl", jsonl(50)), folder_.write("broken.jsonl", jsonl(50) + "{\n")});
  o.journal_bytes = 100;
  fs::create_directory(out());
  folder_.write("out/notes.txt", "kept");
  refusal(o);
  EXPECT_EQ(file_names(out()), std::vector<std::string>{"notes.txt"});
  folder_.write("broken.jsonl", jsonl(60));
  EXPECT_FALSE(prepare(o).already_there);
}

TEST_F(Prepare, AFailedReplacementLeavesNoDescription) {
  auto o = options({folder_.write("a.jsonl", jsonl(50))});
  prepare(o);
  o.read.inputs = {folder_.write("broken.jsonl", jsonl(50) + "{\n").string()};
  o.overwrite = true;
  refusal(o);
  EXPECT_FALSE(fs::exists(out() / "dataset.json"));
  o = options({folder_ / "a.jsonl"});
  EXPECT_FALSE(prepare(o).already_there);
  EXPECT_EQ(file_names(out()),
            (std::vector<std::string>{"dataset.json", "train_000001.bin", "validation_000000.bin"}));
}

TEST_F(Prepare, ABrokenDescriptionIsNoDataset) {
  for (const char* content : {"", "{", "5", "[]", "{}", R"({"tokenizer": 5})", R"({"inputs": {}})"}) {
    fs::remove_all(out());
    fs::create_directory(out());
    folder_.write("out/dataset.json", content);
    EXPECT_FALSE(prepare(options({folder_.write("a.jsonl", jsonl(5))})).already_there) << content;
  }
  fs::remove(out() / "train_000001.bin");  // a shard that somebody deleted
  EXPECT_FALSE(prepare([&] {
                 auto o = options({folder_ / "a.jsonl"});
                 o.overwrite = true;
                 return o;
               }())
                   .already_there);
}

TEST_F(Prepare, DescribesTheDataset) {
  const auto input = folder_.write("a.jsonl", jsonl(100) + json_line(document(3)));
  const auto summary = prepare(options({input}));
  const auto description = nlohmann::json::parse(kiln::testing::content_of(out() / "dataset.json"));
  EXPECT_EQ(description["tokenizer"]["name"], "bytes");
  EXPECT_EQ(description["tokenizer"]["path"], "");
  EXPECT_EQ(description["tokenizer"]["vocab"], 257);
  EXPECT_EQ(description["tokenizer"]["end_of_text"], 256);
  EXPECT_EQ(description["train"]["bytes"], summary.train.tokens - summary.train.documents);
  EXPECT_EQ(description["train"]["shards"][0]["file"], "train_000001.bin");
  EXPECT_EQ(description["train"]["shards"][0]["tokens"], summary.train.tokens);
  EXPECT_EQ(description["train"]["shards"][0]["xxh3"], file_checksum(out() / "train_000001.bin"));
  EXPECT_EQ(description["train"]["documents"], summary.train.documents);
  EXPECT_EQ(description["train"]["tokens"], summary.train.tokens);
  EXPECT_EQ(description["validation"]["tokens"], summary.validation.tokens);
  EXPECT_EQ(description["duplicates"], 1);
  EXPECT_EQ(description["inputs"][0]["path"], input.string());
  EXPECT_EQ(description["inputs"][0]["bytes"], fs::file_size(input));
}

TEST_F(Prepare, ReportsProgress) {
  std::string content;
  for (int i = 0; i < 40; i++) content += json_line(std::string(100'000, 'a') + std::to_string(i));
  const auto a = folder_.write("a.jsonl", content), b = folder_.write("b.jsonl", jsonl(10) + "\n\n");
  std::vector<PrepareProgress> reports;
  const auto summary = prepare(options({a, b}), [&](const PrepareProgress& p) { reports.push_back(p); });
  ASSERT_GE(reports.size(), 4u);
  for (size_t i = 1; i < reports.size(); i++) {
    EXPECT_GE(reports[i].bytes_done, reports[i - 1].bytes_done);
    EXPECT_GE(reports[i].documents, reports[i - 1].documents);
  }
  EXPECT_EQ(reports.back().bytes_done, reports.back().bytes_total);
  EXPECT_EQ(reports.back().bytes_total, static_cast<int64_t>(fs::file_size(a) + fs::file_size(b)));
  EXPECT_EQ(reports.back().documents, summary.train.documents + summary.validation.documents);
  EXPECT_EQ(reports.back().tokens, summary.train.tokens + summary.validation.tokens);
}

}  // namespace
}  // namespace kiln::data
