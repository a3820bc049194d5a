#include "data/byte_tokenizer.h"

#include <algorithm>

namespace kiln::data {

std::vector<uint16_t> ByteTokenizer::encode(std::string_view text) {
  std::vector<uint16_t> tokens(text.size());
  std::transform(text.begin(), text.end(), tokens.begin(),
                 [](char c) { return static_cast<unsigned char>(c); });
  return tokens;
}

std::string ByteTokenizer::decode(std::span<const int32_t> tokens) {
  std::string text;
  text.reserve(tokens.size());
  for (const int32_t token : tokens) {
    if (token >= 0 && token < kEndOfText) {
      text += static_cast<char>(token);
    } else {
      text += token == kEndOfText ? "\n\n" : "\xEF\xBF\xBD";
    }
  }
  return text;
}

}  // namespace kiln::data
