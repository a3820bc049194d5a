// Texts for tests, drawn by a seed.
#pragma once

#include <cstdint>
#include <string>

#include "src/core/random.h"

namespace kiln::data::testing {

class TextSource {
 public:
  explicit TextSource(uint64_t seed) : random_(seed, hash_name("texts")) {}

  size_t draw(size_t n) { return random_.block(count_++)[0] % n; }

  std::string bytes(size_t length) {
    std::string text;
    while (text.size() < length) text += static_cast<char>(draw(256));
    return text;
  }

  // Words, numbers, contractions, spaces of many kinds, scripts of two to four bytes a character, broken
  // bytes.
  std::string mixed(size_t length) {
    static const char* const kPieces[] = {"the",
                                          " the",
                                          " cat",
                                          "'s",
                                          "'ll",
                                          " don't",
                                          "  ",
                                          "\n\n",
                                          " \n",
                                          "\t",
                                          "123",
                                          " 4567",
                                          "!?",
                                          " ...",
                                          "\r\n",
                                          "caf\u00e9",
                                          " \u4e2d\u6587",
                                          "\u3000",
                                          "\u00a0",
                                          "\u180e",
                                          "\U0001F600",
                                          " \u0440\u0443\u0441",
                                          "\u0e17",
                                          "\u00b2",
                                          "\u2028",
                                          "a",
                                          "b",
                                          " ",
                                          "aaaa",
                                          "<|endoftext|>",
                                          "\xff",
                                          "\xc3",
                                          "\xe4\xb8",
                                          "\xed\xa0\x80",
                                          "\xf0\x9f\x98",
                                          "\x01",
                                          "'",
                                          "\u2019s",
                                          "_",
                                          "-"};
    std::string text;
    while (text.size() < length) text += kPieces[draw(std::size(kPieces))];
    return text;
  }

 private:
  Random random_;
  uint64_t count_ = 0;
};

}  // namespace kiln::data::testing
