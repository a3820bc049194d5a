// The simplest tokenizer: one token per byte, and one that starts a document.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kiln::data {

class ByteTokenizer {
 public:
  static constexpr int32_t kEndOfText = 256;
  static constexpr int64_t kVocab = 257;
  static std::vector<uint16_t> encode(std::string_view text);  // without end-of-text
  // End-of-text becomes "\n\n"; a number that is no token (a model's vocabulary may be larger) becomes
  // U+FFFD, so that decoding what a model says never fails.
  static std::string decode(std::span<const int32_t> tokens);
};

}  // namespace kiln::data
