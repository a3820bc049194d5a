#include "data/pretokenizer.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/data/texts.h"

namespace kiln::data {
namespace {

std::vector<std::string> pretokens_of(std::string_view text) {
  static const Pretokenizer pretokenizer;
  Pretokens pretokens(pretokenizer);
  std::vector<std::string> pieces;
  std::string_view piece;
  for (pretokens.start(text); pretokens.next(piece);) pieces.emplace_back(piece);
  return pieces;
}

using Pieces = std::vector<std::string>;

TEST(Pretokenizer, FollowsGpt2) {
  EXPECT_EQ(pretokens_of("Hello world"), (Pieces{"Hello", " world"}));
  EXPECT_EQ(pretokens_of("I've  seen it's 12 o'clock!!\n"),
            (Pieces{"I", "'ve", " ", " seen", " it", "'s", " 12", " o", "'", "clock", "!!", "\n"}));
  EXPECT_EQ(pretokens_of("a   b"), (Pieces{"a", "  ", " b"})) << "the last space goes with the word";
  EXPECT_EQ(pretokens_of("a  "), (Pieces{"a", "  "}));
  EXPECT_EQ(pretokens_of(" \n x"), (Pieces{" \n", " x"}));
  EXPECT_EQ(pretokens_of("don'T"), (Pieces{"don", "'", "T"})) << "contractions are lower case";
  EXPECT_EQ(pretokens_of("x2y"), (Pieces{"x", "2", "y"}));
  EXPECT_EQ(pretokens_of("caf\u00e9 \u4e2d\u6587\u3002"), (Pieces{"caf\u00e9", " \u4e2d\u6587", "\u3002"}));
  EXPECT_EQ(pretokens_of("m\u00b2 \u2162"), (Pieces{"m", "\u00b2", " \u2162"}))
      << "superscripts and Roman numerals";
  EXPECT_EQ(pretokens_of(""), Pieces{});
}

// U+3000, U+00A0, U+2028, U+0085 are spaces; U+180E and U+200B are none.
TEST(Pretokenizer, KnowsUnicodeSpaces) {
  for (const char* space : {"\u3000", "\u00a0", "\u2028", "\u0085", "\u1680", "\u2003", "\v", "\f", "\r"}) {
    EXPECT_EQ(pretokens_of(std::string("a") + space + " b"), (Pieces{"a", space, " b"})) << space;
    EXPECT_EQ(pretokens_of(std::string("a") + space + "b"), (Pieces{"a", space, "b"})) << space;
  }
  for (const char* other : {"\u180e", "\u200b"}) {
    EXPECT_EQ(pretokens_of(std::string("a ") + other + "b"), (Pieces{"a", std::string(" ") + other, "b"}))
        << other;
    EXPECT_EQ(pretokens_of(std::string("a  ") + other), (Pieces{"a", " ", std::string(" ") + other}))
        << other;
  }
}

TEST(Pretokenizer, BrokenBytesStandAlone) {
  EXPECT_EQ(pretokens_of("a\xff\xfe b"), (Pieces{"a", "\xff", "\xfe", " b"}));
  EXPECT_EQ(pretokens_of("  \xff"), (Pieces{"  ", "\xff"}));
  EXPECT_EQ(pretokens_of("\xe4\xb8"), (Pieces{"\xe4", "\xb8"}));
  EXPECT_EQ(pretokens_of("\xc0\xaf"), (Pieces{"\xc0", "\xaf"})) << "an overlong form";
  EXPECT_EQ(pretokens_of("\xed\xa0\x80"), (Pieces{"\xed", "\xa0", "\x80"})) << "a surrogate";
  EXPECT_EQ(pretokens_of("\xf4\x90\x80\x80"), (Pieces{"\xf4", "\x90", "\x80", "\x80"})) << "past U+10FFFF";
  EXPECT_EQ(pretokens_of("\xf4\x8f\xbf\xbf"), Pieces{"\xf4\x8f\xbf\xbf"});
  EXPECT_EQ(pretokens_of(std::string_view("a\0b", 3)), (Pieces{"a", std::string(1, '\0'), "b"}));
}

TEST(Pretokenizer, PiecesAreTheText) {
  testing::TextSource source(1);
  for (int i = 0; i < 2000; i++) {
    const std::string text = i % 2 ? source.bytes(source.draw(50)) : source.mixed(source.draw(200));
    std::string joined;
    for (const auto& piece : pretokens_of(text)) {
      ASSERT_FALSE(piece.empty());
      ASSERT_TRUE(piece.size() == 1 || valid_utf8_bytes(piece) == piece.size());
      joined += piece;
    }
    ASSERT_EQ(joined, text);
  }
}

TEST(Pretokenizer, LongRunsNeedNoStack) {
  for (const char* unit : {"a", " ", "=", "7", "\u4e2d", "\n"}) {
    std::string text;
    for (int i = 0; i < 1'000'000; i++) text += unit;
    EXPECT_EQ(pretokens_of(text), Pieces{text});
  }
}

// Every byte string of one to four bytes from the edges of the ranges, against the definition: a lead byte
// says how many follow, and the code point must need that many bytes, be no surrogate and not exceed
// U+10FFFF.
TEST(ValidUtf8, EdgesOfTheRanges) {
  const auto valid_character = [](const std::string& s) {
    const auto at = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
    const size_t n = at(0) < 0x80 ? 1 : at(0) >> 5 == 6 ? 2 : at(0) >> 4 == 14 ? 3 : at(0) >> 3 == 30 ? 4 : 0;
    if (n != s.size()) return false;
    uint32_t code = n == 1 ? at(0) : at(0) & (0x7F >> n);
    for (size_t i = 1; i < n; i++) {
      if (at(i) >> 6 != 2) return false;
      code = code << 6 | (at(i) & 0x3F);
    }
    const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    return code >= least[n] && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
  };
  const unsigned char edges[] = {0,    0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF,
                                 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE,
                                 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF8, 0xFF};
  const auto check = [&](const std::string& s) {
    size_t expected = 0;  // greedily, character by character
    for (bool found = true; found && expected < s.size();) {
      found = false;
      for (size_t n = 1; n <= 4 && expected + n <= s.size() && !found; n++) {
        if (valid_character(s.substr(expected, n))) {
          expected += n;
          found = true;
        }
      }
    }
    ASSERT_EQ(valid_utf8_bytes(s), expected) << ::testing::PrintToString(s);
    ASSERT_EQ(valid_utf8_bytes("0123456789" + s), 10 + expected);
  };
  for (const auto a : edges) {
    check({static_cast<char>(a)});
    for (const auto b : edges) {
      check({static_cast<char>(a), static_cast<char>(b)});
      for (const auto c : edges) {
        check({static_cast<char>(a), static_cast<char>(b), static_cast<char>(c)});
        for (const auto d : edges) {
          check({static_cast<char>(a), static_cast<char>(b), static_cast<char>(c), static_cast<char>(d)});
        }
      }
    }
  }
}

}  // namespace
}  // namespace kiln::data
