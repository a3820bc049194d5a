#include "src/config/positions.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "src/config/text.h"

namespace kiln::config {
namespace {

std::string where(const Node& root, const std::string& pointer) {
  const Node* node = root.find(pointer);
  if (!node) return "nowhere";
  return std::to_string(node->key.line) + ":" + std::to_string(node->key.column) + " " +
         std::to_string(node->value.line) + ":" + std::to_string(node->value.column);
}

TEST(Positions, KeysAndValues) {
  const Node root = scan(
      "{\n  \"a\": 1,\r\n\t\"b\" : { \"c\": [1, {\"d\": 2}],\n\"e\":\"\xc3\xa9\", \"f\": -1.5e+3 }\n}\n");
  EXPECT_EQ(root.value, (Position{1, 1}));
  EXPECT_EQ(where(root, "/a"), "2:3 2:8");
  EXPECT_EQ(where(root, "/b"), "3:2 3:8");
  EXPECT_EQ(where(root, "/b/c"), "3:10 3:15");
  EXPECT_EQ(where(root, "/b/e"), "4:1 4:5");
  EXPECT_EQ(where(root, "/b/f"), "4:10 4:15");  // an accented letter is one column
  EXPECT_EQ(where(root, "/b/c/d"), "nowhere");  // arrays are leaves
  EXPECT_EQ(where(root, "/x"), "nowhere");
  EXPECT_EQ(where(root, "a"), "nowhere");
}

TEST(Positions, PointersAreEscaped) {
  const Node root = scan(R"({ "a/b": 1, "c~d": 2, "": { "\u00e9\ud83d\ude00": 3 } })");
  EXPECT_EQ(where(root, "/a~1b"), "1:3 1:10");
  EXPECT_EQ(where(root, "/c~0d"), "1:13 1:20");
  EXPECT_EQ(where(root, "//\xc3\xa9\xf0\x9f\x98\x80"), "1:29 1:51");
}

TEST(Positions, ByteOrderMarkTakesNoColumn) {
  EXPECT_EQ(where(scan("\xef\xbb\xbf{\"a\": 1}"), "/a"), "1:2 1:7");
}

TEST(Positions, DepthIsBounded) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_NO_THROW(scan(nested(kMaxDepth)));
  EXPECT_THROW(scan(nested(kMaxDepth + 1)), SyntaxError);
  EXPECT_THROW(scan(std::string(1'000'000, '[')), SyntaxError);
  std::string objects;
  for (int i = 0; i < 100'000; i++) objects += "{\"a\":";
  EXPECT_THROW(scan(objects), SyntaxError);
}

// Everything the grammar of RFC 8259 decides on, against nlohmann/json as the judge.
TEST(Positions, AgreesWithTheParser) {
  const std::vector<std::string> texts = {
      "0",
      "-0",
      "-",
      "01",
      "-01",
      "1.0",
      "1.",
      ".5",
      "1e5",
      "1E+5",
      "1e",
      "1e+",
      "1e5.5",
      "-1.5E-10",
      "1x",
      "0x10",
      "--1",
      "+1",
      "true",
      "false",
      "null",
      "tru",
      "truee",
      "nul",
      "NaN",
      "Infinity",
      "\"\"",
      "\"a",
      "\"\\\"\"",
      "\"\\\\\"",
      "\"\\/\\b\\f\\n\\r\\t\"",
      "\"\\x\"",
      "\"\\u12\"",
      "\"\\u12g4\"",
      "\"\\u00e9\"",
      "\"\\uD83D\\uDE00\"",
      "\"\\ud83d\"",
      "\"\\ude00\"",
      "\"\\ud83d\\u0041\"",
      "\"\\ud83d\\\"",
      "\"\x01\"",
      "\"\x7f\"",
      "\"\xc3\xa9\"",
      "\"\xc3\"",
      "\"\xc0\x80\"",
      "\"\xe0\x80\x80\"",
      "\"\xed\xa0\x80\"",
      "\"\xef\xbf\xbf\"",
      "\"\xf0\x9f\x98\x80\"",
      "\"\xf0\x80\x80\x80\"",
      "\"\xf4\x90\x80\x80\"",
      "\"\xf5\x80\x80\x80\"",
      "\"\xff\"",
      "\"\x80\"",
      "[]",
      "[",
      "]",
      "[1]",
      "[1,]",
      "[,1]",
      "[1 2]",
      "[1,2]",
      "[1,,2]",
      "{}",
      "{",
      "}",
      "{\"a\"}",
      "{\"a\":}",
      "{\"a\":1}",
      "{\"a\":1,}",
      "{,}",
      "{\"a\":1 \"b\":2}",
      "{\"a\":1,\"b\":2}",
      "{a:1}",
      "{1:1}",
      "{\"a\":{\"b\":[{}]}}",
      "[{]}",
      "{[}]",
      "1 2",
      "{} x",
      "",
      " ",
      "\t\r\n 1 \n",
      "\v1",
      "\xc2\xa0 1",
      "'a'",
      "/*x*/1",
      "1//x",
      "#",
      "\xef\xbb\xbf 1",
      "\xef\xbb 1",
      "1\xef\xbb\xbf",
  };
  for (const std::string& text : texts) {
    bool is_scanned = true;
    try {
      scan(text);
    } catch (const SyntaxError&) {
      is_scanned = false;
    }
    EXPECT_EQ(is_scanned, nlohmann::json::accept(text)) << text;
  }
}

TEST(Text, Quotes) {
  EXPECT_EQ(in_quotes("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000a\"");
  EXPECT_EQ(in_quotes("\xff\xc3\xa9"), "\"\xef\xbf\xbd\xc3\xa9\"");
  EXPECT_EQ(in_quotes(std::string(41, 'x')), "\"" + std::string(40, 'x') + "...\"");
  EXPECT_EQ(in_quotes(std::string(40, 'x')), "\"" + std::string(40, 'x') + "\"");
}

TEST(Text, EditDistance) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("witdh", "width"), 1u);  // neighbours swapped
  EXPECT_EQ(edit_distance("Micro-Batch", "micro_batch"), 0u);
  EXPECT_EQ(edit_distance("ca", "abc"), 3u);  // restricted: a swapped pair is not edited again
}

TEST(Text, Nearest) {
  EXPECT_EQ(nearest("warm_up", {"kind", "warmup"}), "warmup");
  EXPECT_EQ(nearest("val", {"sampling", "validation"}), "validation");
  EXPECT_EQ(nearest("lr", {"b1", "lr"}), "lr");
  EXPECT_EQ(nearest("b3", {"lr", "b1", "b2"}), "b1");
  EXPECT_EQ(nearest("colour", {"lr", "b1"}), "");
  EXPECT_EQ(nearest(std::string(1'000'000, 'a'), {"a"}), "");
}

TEST(Text, Either) {
  EXPECT_EQ(either({"a"}), "a");
  EXPECT_EQ(either({"a", "b"}), "a or b");
  EXPECT_EQ(either({"a", "b", "c"}), "a, b or c");
}

}  // namespace
}  // namespace kiln::config
