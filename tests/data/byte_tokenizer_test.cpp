#include "data/byte_tokenizer.h"

#include <gtest/gtest.h>

#include <numeric>

namespace kiln::data {
namespace {

TEST(ByteTokenizer, EveryByteSurvivesTheRoundTrip) {
  std::string text(256, '\0');
  std::iota(text.begin(), text.end(), static_cast<char>(0));
  const auto tokens = ByteTokenizer::encode(text + text);
  ASSERT_EQ(tokens.size(), 512u);
  for (size_t i = 0; i < tokens.size(); i++) EXPECT_EQ(tokens[i], i % 256);
  EXPECT_EQ(ByteTokenizer::decode(std::vector<int32_t>(tokens.begin(), tokens.end())), text + text);
  EXPECT_TRUE(ByteTokenizer::encode("").empty());
  EXPECT_EQ(ByteTokenizer::decode({}), "");
}

TEST(ByteTokenizer, EndOfTextBecomesABlankLine) {
  EXPECT_EQ(ByteTokenizer::decode(std::vector<int32_t>{256, 'a', 256, 'b'}), "\n\na\n\nb");
}

TEST(ByteTokenizer, NumbersOutsideTheVocabularyDecodeToTheReplacementCharacter) {
  EXPECT_EQ(ByteTokenizer::decode(std::vector<int32_t>{'a', 257, -1, 50256, 'b'}),
            "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
            "b");
}

}  // namespace
}  // namespace kiln::data
