// A tokenizer that could be opened must do its work.
#pragma once

#include <cstdlib>
#include <string>
#include <vector>

#include "data/tokenizer.h"

namespace kiln::fuzz {

inline void round_trip(const data::Tokenizer& tokenizer) {
  std::string text = "Hello  world, it's 2024! the the \xff\xe4\xb8 \u4e2d\u6587\n\n<|endoftext|>";
  for (int byte = 0; byte < 256; byte++) text += static_cast<char>(byte);
  std::vector<int32_t> tokens;
  tokenizer.encode(text, tokens);
  std::string decoded;
  tokenizer.decode(tokens, decoded);
  if (decoded != text) std::abort();
  for (const int32_t token : tokens) {
    if (token < 0 || token >= tokenizer.vocab() || token == tokenizer.end_of_text()) std::abort();
  }
  if (tokenizer.fingerprint().size() != 32) std::abort();
}

}  // namespace kiln::fuzz
