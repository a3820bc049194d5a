#include "data/tokenizer.h"

#include <gtest/gtest.h>

#include <numeric>
#include <thread>

#include "data/bpe.h"
#include "data/pretokenizer.h"
#include "data/tokenizer_files.h"
#include "data/train_bpe.h"
#include "tests/core/temporary_folder.h"
#include "tests/data/reference_bpe.h"
#include "tests/data/texts.h"

namespace kiln::data {
namespace {

using kiln::testing::error_message;
using kiln::testing::TemporaryFolder;
using testing::TextSource;

std::vector<int32_t> encode(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> tokens;
  tokenizer.encode(text, tokens);
  return tokens;
}

std::string decode(const Tokenizer& tokenizer, const std::vector<int32_t>& tokens) {
  std::string text;
  tokenizer.decode(tokens, text);
  return text;
}

PretokenCounts counts_of(const std::string& text) {
  const TemporaryFolder folder;
  return count_pretokens({.inputs = {folder.write("a.txt", text).string()}}, 1);
}

BpeRules small_rules(int64_t vocab = 400) {
  return train_bpe(counts_of(TextSource(7).mixed(20'000)), vocab);
}

std::string base64(std::string_view bytes) {
  static const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t n = std::min<size_t>(3, bytes.size() - i);
    uint32_t bits = 0;
    for (size_t k = 0; k < 3; k++) bits = bits << 8 | (k < n ? static_cast<unsigned char>(bytes[i + k]) : 0);
    for (size_t k = 0; k < 4; k++) out += k <= n ? digits[bits >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

std::string tiktoken_file(const BpeRules& rules) {
  std::string content;
  for (size_t id = 0; id + 1 < rules.tokens.size(); id++) {
    content += base64(rules.tokens[id]) + " " + std::to_string(id) + "\n";
  }
  return content;
}

// Every tokenizer there is: bytes, trained, read from JSON, read from ranks.
std::vector<std::unique_ptr<Tokenizer>> all_tokenizers() {
  std::vector<std::unique_ptr<Tokenizer>> all;
  all.push_back(open_tokenizer("bytes"));
  const BpeRules rules = small_rules();
  all.push_back(make_bpe(rules, "trained"));
  all.push_back(make_bpe(read_tokenizer_json(tokenizer_json(rules), "json"), "json"));
  all.push_back(make_bpe(read_tiktoken(tiktoken_file(rules), "ranks"), "ranks"));
  return all;
}

TEST(Tokenizer, EverythingSurvivesTheRoundTrip) {
  const auto tokenizers = all_tokenizers();
  std::string bytes(256, '\0');
  std::iota(bytes.begin(), bytes.end(), static_cast<char>(0));
  TextSource source(2);
  std::vector<std::string> texts = {
      "", bytes, bytes + bytes, "Hello world", std::string(100'000, 'a'), source.mixed(100'000)};
  for (int i = 0; i < 300; i++)
    texts.push_back(i % 2 ? source.bytes(source.draw(100)) : source.mixed(source.draw(300)));
  for (const auto& tokenizer : tokenizers) {
    for (const auto& text : texts) {
      const auto tokens = encode(*tokenizer, text);
      ASSERT_EQ(decode(*tokenizer, tokens), text);
      for (const int32_t token : tokens) {
        ASSERT_GE(token, 0);
        ASSERT_LT(token, tokenizer->vocab());
        ASSERT_NE(token, tokenizer->end_of_text());
      }
    }
  }
}

TEST(Tokenizer, BytesAreTheirOwnNumbers) {
  const auto tokenizer = open_tokenizer("bytes");
  EXPECT_EQ(tokenizer->vocab(), 257);
  EXPECT_EQ(tokenizer->end_of_text(), 256);
  EXPECT_EQ(tokenizer->name(), "bytes");
  EXPECT_EQ(encode(*tokenizer, "a\xff"), (std::vector<int32_t>{97, 255}));
}

TEST(Tokenizer, EndOfTextBecomesABlankLineAndUnknownNumbersTheReplacementCharacter) {
  for (const auto& tokenizer : all_tokenizers()) {
    auto tokens = encode(*tokenizer, "a");
    const int32_t a = tokens[0], end = tokenizer->end_of_text(),
                  vocab = static_cast<int32_t>(tokenizer->vocab());
    EXPECT_EQ(decode(*tokenizer, {end, a, end, a}), "\n\na\n\na");
    EXPECT_EQ(decode(*tokenizer, {a, vocab, -1, 2'000'000'000, a}),
              "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
              "a");
    EXPECT_EQ(decode(*tokenizer, {}), "");
  }
}

TEST(Tokenizer, AppendsToWhatIsThere) {
  for (const auto& tokenizer : all_tokenizers()) {
    std::vector<int32_t> tokens{-5};
    tokenizer->encode("ab", tokens);
    EXPECT_EQ(tokens[0], -5);
    std::string text = "x";
    tokenizer->decode(std::span(tokens).subspan(1), text);
    EXPECT_EQ(text, "xab");
  }
}

TEST(Tokenizer, NamesOfSpecialTokensAreText) {
  for (const auto& tokenizer : all_tokenizers()) {
    EXPECT_EQ(decode(*tokenizer, encode(*tokenizer, "a<|endoftext|>b")), "a<|endoftext|>b");
  }
}

TEST(Bpe, AgreesWithTheNaiveEncoder) {
  const BpeRules trained = small_rules();
  const BpeRules ranks = read_tiktoken(tiktoken_file(trained), "ranks");
  const Pretokenizer pretokenizer;
  Pretokens pretokens(pretokenizer);
  TextSource source(3);
  for (const BpeRules& rules : {trained, ranks}) {
    const auto tokenizer = make_bpe(rules, "test");
    for (int i = 0; i < 40; i++) {
      const std::string text = source.mixed(100);
      std::vector<int32_t> expected;
      std::string_view pretoken;
      for (pretokens.start(text); pretokens.next(pretoken);) {
        const auto part = testing::reference_encode(rules, std::string(pretoken));
        expected.insert(expected.end(), part.begin(), part.end());
      }
      ASSERT_EQ(encode(*tokenizer, text), expected) << text;
      ASSERT_EQ(encode(*tokenizer, text), expected) << "from the cache: " << text;
    }
  }
}

// Rules that no training gives: ranks in any order, so that a merge can make a pair of a lower rank than its
// own.
TEST(Bpe, AgreesWithTheNaiveEncoderOnArbitraryRules) {
  TextSource source(4);
  for (int round = 0; round < 60; round++) {
    BpeRules rules;
    for (const unsigned char byte : gpt2_byte_order()) rules.tokens.emplace_back(1, static_cast<char>(byte));
    const auto letter = [](char c) { return static_cast<int32_t>(c - '!'); };
    std::vector<int32_t> pool = {letter('a'), letter('b'), letter('c')};
    std::vector<std::pair<int32_t, int32_t>> seen;
    for (int i = 0; i < 30; i++) {
      const std::pair pair(pool[source.draw(pool.size())], pool[source.draw(pool.size())]);
      if (std::count(seen.begin(), seen.end(), pair)) continue;
      seen.push_back(pair);
      const auto id = static_cast<int32_t>(rules.tokens.size());
      rules.tokens.push_back(rules.tokens[static_cast<size_t>(pair.first)] +
                             rules.tokens[static_cast<size_t>(pair.second)]);
      rules.merges.push_back({pair.first, pair.second, id, static_cast<int32_t>(source.draw(20))});
      pool.push_back(id);
    }
    rules.end_of_text = static_cast<int32_t>(rules.tokens.size());
    rules.special = {rules.end_of_text};
    rules.tokens.emplace_back(kEndOfTextName);
    const auto tokenizer = make_bpe(rules, "arbitrary");
    for (int i = 0; i < 20; i++) {
      std::string word;
      for (size_t n = 1 + source.draw(60); n > 0; n--) word += static_cast<char>('a' + source.draw(3));
      ASSERT_EQ(encode(*tokenizer, word), testing::reference_encode(rules, word)) << word;
    }
  }
}

TEST(Bpe, ManyThreadsGetTheSame) {
  const auto tokenizer = make_bpe(small_rules(), "test");
  const std::string text = TextSource(5).mixed(50'000);
  const auto expected = encode(*tokenizer, text);
  std::vector<std::vector<int32_t>> found(4);
  std::vector<std::thread> threads;
  for (auto& tokens : found) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5; i++) tokens = encode(*tokenizer, text);
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& tokens : found) EXPECT_EQ(tokens, expected);
}

// A pre-token of 300 kB: quadratic time would take minutes.
TEST(Bpe, LongPretokensTakeNoQuadraticTime) {
  const auto tokenizer = make_bpe(small_rules(), "test");
  const std::string text(300'000, 'a');
  EXPECT_LT(encode(*tokenizer, text).size(), text.size());
}

TEST(Bpe, FingerprintsTellRulesApart) {
  const BpeRules rules = small_rules();
  const std::string fingerprint = make_bpe(rules, "a")->fingerprint();
  EXPECT_EQ(fingerprint.size(), 32u);
  EXPECT_EQ(make_bpe(read_tokenizer_json(tokenizer_json(rules), "b"), "b")->fingerprint(), fingerprint);
  EXPECT_NE(make_bpe(small_rules(401), "a")->fingerprint(), fingerprint);
  BpeRules changed = rules;
  std::swap(changed.merges[0].rank, changed.merges[1].rank);
  EXPECT_NE(make_bpe(changed, "a")->fingerprint(), fingerprint);
  EXPECT_NE(open_tokenizer("bytes")->fingerprint(), fingerprint);
}

TEST(TrainBpe, AgreesWithTheNaiveTrainer) {
  TextSource source(6);
  for (int round = 0; round < 12; round++) {
    // Few letters: many ties, runs of one letter, the same token made in two ways.
    PretokenCounts counts;
    for (int i = 0; i < 60; i++) {
      std::string word;
      for (size_t n = 1 + source.draw(12); n > 0; n--)
        word += static_cast<char>('a' + source.draw(1 + static_cast<size_t>(round) % 4));
      counts.emplace_back(word, 1 + source.draw(4));
    }
    const auto expected = testing::reference_train(counts, 1000);
    const auto vocab = static_cast<int64_t>(expected.tokens.size()) + 1;  // as many as there can be
    const BpeRules rules = train_bpe(counts, vocab);
    auto tokens = expected.tokens;
    tokens.emplace_back("<|endoftext|>");
    EXPECT_EQ(rules.tokens, tokens);
    ASSERT_LE(rules.merges.size(), expected.merges.size());
    for (size_t i = 0; i < rules.merges.size(); i++) {
      EXPECT_EQ(std::pair(rules.merges[i].left, rules.merges[i].right), expected.merges[i]) << i;
      EXPECT_EQ(rules.merges[i].rank, static_cast<int32_t>(i));
    }
    EXPECT_EQ(error_message(ExitCode::data, [&] { train_bpe(counts, vocab + 1); }),
              fmt::format("the text gives only {} of {} tokens: no pair of tokens comes twice any more",
                          vocab, vocab + 1));
  }
}

TEST(TrainBpe, ThreadsDoNotMatter) {
  const TemporaryFolder folder;
  TextSource source(8);
  std::string jsonl;
  for (int i = 0; i < 300; i++)
    jsonl += "{\"text\": \"word" + std::to_string(source.draw(50)) + " and more, it's\"}\n";
  const ReadOptions read{.inputs = {folder.write("a.jsonl", jsonl).string(),
                                    folder.write("b.txt", source.mixed(300'000)).string()}};
  const auto counts = count_pretokens(read, 1);
  EXPECT_GT(counts.size(), 100u);
  EXPECT_TRUE(std::is_sorted(counts.begin(), counts.end()));
  EXPECT_EQ(count_pretokens(read, 3), counts);
  int64_t bytes = 0;
  for (const auto& [pretoken, count] : counts) bytes += static_cast<int64_t>(pretoken.size()) * count;
  EXPECT_GT(bytes, 300'000);
}

TEST(TrainBpe, SizesOutOfRangeAreRefused) {
  for (const int64_t vocab : {int64_t{-1}, int64_t{0}, int64_t{256}, kMaxVocab + 1}) {
    EXPECT_EQ(error_message(ExitCode::usage, [&] { train_bpe({}, vocab); }),
              fmt::format("a vocabulary of {} tokens", vocab));
  }
  EXPECT_EQ(train_bpe({}, 257).end_of_text, 256);
}

// What GPT-2's files say: id 0 is "!", 220 is a space, 198 a line's end.
TEST(Gpt2Bytes, AreInTheOrderOfGpt2) {
  const auto order = gpt2_byte_order();
  EXPECT_EQ(order[0], '!');
  EXPECT_EQ(order[198], '\n');
  EXPECT_EQ(order[220], ' ');
  EXPECT_EQ(order[255], 0xAD);
  auto sorted = order;
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 0; i < 256; i++) EXPECT_EQ(sorted[i], i);
}

}  // namespace
}  // namespace kiln::data
