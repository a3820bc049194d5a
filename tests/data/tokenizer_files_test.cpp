#include "data/tokenizer_files.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data/train_bpe.h"
#include "tests/core/temporary_folder.h"

namespace kiln::data {
namespace {

using kiln::testing::content_of;
using kiln::testing::error_message;
using kiln::testing::TemporaryFolder;
using Json = nlohmann::json;

// 256 bytes, "he", " t", " the", end-of-text.
BpeRules four_rules() {
  return train_bpe({{" the", 3}, {"he", 6}, {" t", 1}}, 260);
}

Json four_json() {
  return Json::parse(tokenizer_json(four_rules()));
}

TEST(TokenizerJson, IsReadAsItWasWritten) {
  const BpeRules rules = four_rules(), read = read_tokenizer_json(tokenizer_json(rules), "a.json");
  EXPECT_EQ(read.tokens, rules.tokens);
  EXPECT_EQ(read.end_of_text, 259);
  EXPECT_EQ(read.special, rules.special);
  EXPECT_EQ(read.whole_pretokens, false);
  ASSERT_EQ(read.merges.size(), rules.merges.size());
  for (size_t i = 0; i < read.merges.size(); i++) {
    EXPECT_EQ(read.merges[i].left, rules.merges[i].left);
    EXPECT_EQ(read.merges[i].right, rules.merges[i].right);
    EXPECT_EQ(read.merges[i].result, rules.merges[i].result);
    EXPECT_EQ(read.merges[i].rank, rules.merges[i].rank);
  }
}

TEST(TokenizerJson, HoldsWhatHuggingFaceWrites) {
  const Json json = four_json();
  EXPECT_EQ(json["version"], "1.0");
  EXPECT_EQ(json["pre_tokenizer"]["type"], "ByteLevel");
  EXPECT_EQ(json["pre_tokenizer"]["add_prefix_space"], false);
  EXPECT_EQ(json["model"]["vocab"]["\u0120the"], 258);
  EXPECT_EQ(json["model"]["vocab"]["<|endoftext|>"], 259);
  EXPECT_EQ(json["model"]["merges"], Json::parse(R"(["h e", "\u0120 t", "\u0120t he"])"));
  EXPECT_EQ(json["added_tokens"][0]["id"], 259);
}

TEST(TokenizerJson, MergesMayBePairsAndSpecialTokensMayLeaveTheVocabulary) {
  Json json = four_json();
  json["model"]["merges"] = Json::parse(R"([["h", "e"], ["\u0120", "t"], ["\u0120t", "he"]])");
  json["model"]["vocab"].erase("<|endoftext|>");
  json["added_tokens"].push_back({{"id", 300}, {"content", "<|pad|>"}, {"special", true}});
  const BpeRules read = read_tokenizer_json(json.dump(), "a.json");
  EXPECT_EQ(read.tokens.size(), 301u);
  EXPECT_EQ(read.tokens[280], "");
  EXPECT_EQ(read.tokens[300], "<|pad|>");
  EXPECT_EQ(read.merges.size(), 3u);
  const auto tokenizer = make_bpe(read, "a.json");
  std::string text;
  tokenizer->decode(std::vector<int32_t>{258, 280, 300}, text);
  EXPECT_EQ(text, " the\xEF\xBF\xBD<|pad|>");
}

struct BrokenJson {
  const char* name;
  void (*change)(Json&);
  const char* message;
};

class BrokenTokenizerJson : public ::testing::TestWithParam<BrokenJson> {};

TEST_P(BrokenTokenizerJson, IsRefused) {
  Json json = four_json();
  GetParam().change(json);
  EXPECT_EQ(
      error_message(ExitCode::data, [&] { make_bpe(read_tokenizer_json(json.dump(), "a.json"), "a.json"); }),
      GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, BrokenTokenizerJson,
    ::testing::Values(
        BrokenJson{"array", [](Json& j) { j = Json::array(); }, "a.json: a JSON array instead of an object"},
        BrokenJson{"no_model", [](Json& j) { j.erase("model"); }, "a.json: it has no \"model\""},
        BrokenJson{"word_piece", [](Json& j) { j["model"]["type"] = "WordPiece"; },
                   "a.json: a tokenizer of the kind \"WordPiece\""},
        BrokenJson{"unigram",
                   [](Json& j) {
                     j["model"] = {{"type", "Unigram"}};
                   },
                   "a.json: a tokenizer of the kind \"Unigram\""},
        BrokenJson{"byte_fallback", [](Json& j) { j["model"]["byte_fallback"] = true; },
                   "a.json: a BPE of characters that falls back to bytes (byte_fallback)"},
        BrokenJson{"suffix", [](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; },
                   "a.json: a BPE with end_of_word_suffix = \"</w>\""},
        BrokenJson{"dropout", [](Json& j) { j["model"]["dropout"] = 0.1; }, "a.json: a BPE with dropout"},
        BrokenJson{"normalizer",
                   [](Json& j) {
                     j["normalizer"] = {{"type", "NFC"}};
                   },
                   "a.json: it changes the text before encoding it (normalizer \"NFC\")"},
        BrokenJson{"pre_tokenizer",
                   [](Json& j) {
                     j["pre_tokenizer"] = {{"type", "Metaspace"}};
                   },
                   "a.json: its pre-tokenizer is Metaspace, not ByteLevel"},
        BrokenJson{"no_pre_tokenizer", [](Json& j) { j["pre_tokenizer"] = nullptr; },
                   "a.json: its pre-tokenizer is none, not ByteLevel"},
        BrokenJson{"prefix_space", [](Json& j) { j["pre_tokenizer"]["add_prefix_space"] = true; },
                   "a.json: its pre-tokenizer puts a space in front of every text (add_prefix_space)"},
        BrokenJson{"no_pattern", [](Json& j) { j["pre_tokenizer"]["use_regex"] = false; },
                   "a.json: its pre-tokenizer does not use GPT-2's pattern"},
        BrokenJson{"vocab_list", [](Json& j) { j["model"]["vocab"] = Json::array(); },
                   "a.json: the vocabulary is no object of token: id"},
        BrokenJson{"id_text", [](Json& j) { j["model"]["vocab"]["h"] = "5"; },
                   "a.json: the id of token \"h\" is no integer"},
        BrokenJson{"id_huge", [](Json& j) { j["model"]["vocab"]["h"] = 4'000'000'000; },
                   "a.json: token \"h\" has the id 4000000000, which is not in 0 ... 1048575"},
        BrokenJson{"id_negative", [](Json& j) { j["model"]["vocab"]["h"] = -1; },
                   "a.json: token \"h\" has the id -1, which is not in 0 ... 1048575"},
        BrokenJson{"id_twice", [](Json& j) { j["model"]["vocab"]["h"] = j["model"]["vocab"]["i"]; },
                   "a.json: two tokens have the id 72"},
        BrokenJson{"not_letters", [](Json& j) { j["model"]["vocab"]["\u4e2d"] = 300; },
                   "a.json: token \"\u4e2d\" is not written in GPT-2's byte letters"},
        BrokenJson{"merge_of_nothing", [](Json& j) { j["model"]["merges"][1] = "h x"; },
                   "a.json: merge 1 needs token \"hx\", which the vocabulary lacks"},
        BrokenJson{"merge_of_one", [](Json& j) { j["model"]["merges"][1] = "h"; },
                   "a.json, merge 1: \"h\" instead of two tokens with a space between them"},
        BrokenJson{"merge_of_three",
                   [](Json& j) { j["model"]["merges"][1] = Json::parse(R"(["h", "e", "x"])"); },
                   "a.json: merge 1 is not two tokens"},
        BrokenJson{"merge_number", [](Json& j) { j["model"]["merges"][1] = 5; },
                   "a.json: merge 1 is not two tokens"},
        BrokenJson{"merges_object", [](Json& j) { j["model"]["merges"] = Json::object(); },
                   "a.json: \"merges\" is no array"},
        BrokenJson{"missing_byte", [](Json& j) { j["model"]["vocab"].erase("!"); },
                   "a.json: no token for the byte 0x21, so not every text could be encoded"},
        BrokenJson{"added_tokens", [](Json& j) { j["added_tokens"] = 5; },
                   "a.json: \"added_tokens\" is no array"},
        BrokenJson{"added_token", [](Json& j) { j["added_tokens"][0].erase("id"); },
                   "a.json: an entry of \"added_tokens\" has no content or no id"},
        BrokenJson{"no_end_of_text",
                   [](Json& j) {
                     j["added_tokens"] = Json::array();
                     j["model"]["vocab"].erase("<|endoftext|>");
                   },
                   "a.json: no end-of-text token (<|endoftext|>)"}),
    [](const auto& param) { return std::string(param.param.name); });

TEST(TokenizerJson, BrokenJsonIsRefused) {
  const std::string good = tokenizer_json(four_rules());
  for (const size_t size : {size_t{0}, size_t{1}, good.size() / 2, good.size() - 3}) {
    EXPECT_EQ(error_message(ExitCode::data, [&] { read_tokenizer_json(good.substr(0, size), "a.json"); }),
              "a.json: this is no JSON");
  }
}

TEST(VocabAndMerges, AreReadAsGpt2WasPublished) {
  const Json json = four_json();
  const BpeRules rules =
      read_vocab_and_merges(json["model"]["vocab"].dump(), "vocab.json",
                            "#version: 0.2\nh e\n\u0120 t\r\n\u0120t he\n\n", "merges.txt");
  EXPECT_EQ(rules.tokens, four_rules().tokens);
  EXPECT_EQ(rules.end_of_text, 259);
  EXPECT_EQ(rules.merges.size(), 3u);
  EXPECT_EQ(rules.merges[2].result, 258);
  EXPECT_EQ(error_message(ExitCode::data,
                          [&] {
                            read_vocab_and_merges(json["model"]["vocab"].dump(), "vocab.json", "h e\nhe\n",
                                                  "merges.txt");
                          }),
            "merges.txt, line 2: \"he\" instead of two tokens with a space between them");
}

std::string byte_ranks() {
  std::string content;
  for (int byte = 0; byte < 256; byte++) {
    const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    content += fmt::format("{}{}== {}\n", digits[byte >> 2], digits[(byte & 3) << 4], byte);
  }
  return content;
}

TEST(Tiktoken, RanksAreIdsAndEndOfTextComesFirstAfterThem) {
  const auto rules = read_tiktoken(byte_ranks() + "aGU= 256\r\n\nIHQ= 257\nIHRoZQ== 258\n", "a.tiktoken");
  EXPECT_EQ(rules.tokens[256], "he");
  EXPECT_EQ(rules.tokens[257], " t");
  EXPECT_EQ(rules.tokens[258], " the");
  EXPECT_EQ(rules.end_of_text, 259);
  const auto tokenizer = make_bpe(rules, "a.tiktoken");
  std::vector<int32_t> tokens;
  tokenizer->encode(" the she", tokens);
  EXPECT_EQ(tokens, (std::vector<int32_t>{258, ' ', 's', 256}));
}

TEST(Tiktoken, AHoleIsTheEndOfTextToken) {
  const auto rules = read_tiktoken(byte_ranks() + "aGU= 257\n", "p50k.tiktoken");  // as p50k_base has it
  EXPECT_EQ(rules.end_of_text, 256);
  EXPECT_EQ(rules.tokens.size(), 258u);
}

TEST(Tiktoken, BrokenLinesAreNamed) {
  const auto refused = [](const std::string& line) {
    return error_message(ExitCode::data, [&] { read_tiktoken("IQ== 0\n" + line, "a.tiktoken"); });
  };
  const std::string instead = " instead of base64(token), a space and its rank";
  EXPECT_EQ(refused("IQ="), "a.tiktoken, line 2: \"IQ=\"" + instead);
  EXPECT_EQ(refused("Ig== x"), "a.tiktoken, line 2: \"Ig== x\"" + instead);
  EXPECT_EQ(refused("Ig== 1 2"), "a.tiktoken, line 2: \"Ig== 1 2\"" + instead);
  EXPECT_EQ(refused("Ig== -1"), "a.tiktoken, line 2: \"Ig== -1\"" + instead);
  EXPECT_EQ(refused("I$== 1"), "a.tiktoken, line 2: \"I$== 1\"" + instead);
  EXPECT_EQ(refused(" 1"), "a.tiktoken, line 2: \" 1\"" + instead);
  EXPECT_EQ(refused("Ig== 2000000"), "a.tiktoken, line 2: rank 2000000 is not in 0 ... 1048574");
  EXPECT_EQ(refused("Ig== 0"), "a.tiktoken, line 2: rank 0 a second time");
  std::string long_token;
  for (int i = 0; i < 400; i++) long_token += "YWFh";
  EXPECT_EQ(refused(long_token + " 1"), "a.tiktoken, line 2: a token of 1200 bytes, more than 1024");
  EXPECT_EQ(refused("IQ== 1"), "a.tiktoken, line 2: the token of line 1 again");
}

TEST(Tiktoken, RanksOfAnotherPatternAreRefused) {
  // ".Forms": cl100k_base lets one sign go with the letters after it.
  EXPECT_EQ(error_message(ExitCode::data, [] { read_tiktoken("LkZvcm1z 0\n", "cl100k_base.tiktoken"); }),
            "cl100k_base.tiktoken: it holds the token \".Forms\", which GPT-2's pattern always cuts: it was "
            "made for another "
            "pattern");
}

TEST(OpenTokenizer, FindsEveryFormat) {
  const TemporaryFolder folder;
  const BpeRules rules = four_rules();
  const Json json = four_json();
  const std::string merges = "#version: 0.2\nh e\n\u0120 t\n\u0120t he\n";
  for (const char* name : {"hf", "gpt2", "old"}) std::filesystem::create_directory(folder / name);
  folder.write("hf/tokenizer.json", tokenizer_json(rules));
  folder.write("gpt2/vocab.json", json["model"]["vocab"].dump());
  folder.write("gpt2/merges.txt", merges);
  folder.write("old/encoder.json", json["model"]["vocab"].dump());
  folder.write("old/vocab.bpe", merges);
  folder.write("my.json", tokenizer_json(rules));
  folder.write("ranks.tiktoken", byte_ranks());
  for (const char* name :
       {"hf", "hf/tokenizer.json", "gpt2", "gpt2/vocab.json", "old", "old/encoder.json", "my.json"}) {
    const auto tokenizer = open_tokenizer((folder / name).string());
    EXPECT_EQ(tokenizer->name(), "bpe-260") << name;
    EXPECT_EQ(tokenizer->fingerprint(), make_bpe(rules, "x")->fingerprint()) << name;
  }
  EXPECT_EQ(open_tokenizer((folder / "ranks.tiktoken").string())->vocab(), 257);
}

TEST(OpenTokenizer, SaysWhatItCannotOpen) {
  const TemporaryFolder folder;
  const std::string path = folder.path().string();
  const auto refused = [](const std::string& spec) {
    return error_message(ExitCode::data, [&] { open_tokenizer(spec); });
  };
  EXPECT_EQ(refused("byte"), "there is no tokenizer \"byte\"");
  EXPECT_EQ(refused(""), "there is no tokenizer \"\"");
  EXPECT_EQ(refused(path), path + " holds neither tokenizer.json nor vocab.json");
  folder.write("vocab.json", "{}");
  EXPECT_EQ(refused(path), path + "/vocab.json has neither a model nor a merges.txt beside it");
  folder.write("spm.model", "");
  EXPECT_EQ(refused(path + "/spm.model"), path + "/spm.model is neither .json nor .tiktoken");
}

}  // namespace
}  // namespace kiln::data
