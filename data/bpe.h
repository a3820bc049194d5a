// Byte-level byte-pair encoding: a text is cut into pre-tokens, each pre-token into bytes, and then, as long
// as there is one, the pair of neighbours of the lowest rank (of equal ranks the leftmost) becomes one token.
// Sennrich, Haddow, Birch, arXiv 1508.07909; on bytes: Radford et al. 2019 (GPT-2).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/tokenizer.h"

namespace kiln::data {

inline constexpr int64_t kMaxVocab = int64_t{1} << 20;
inline constexpr const char* kEndOfTextName = "<|endoftext|>";

struct Merge {
  int32_t left, right, result;
  int32_t rank;
};

struct BpeRules {
  std::vector<std::string> tokens;  // their bytes, by id; an empty one does not exist
  std::vector<int32_t> special;     // ids of tokens that no text is encoded to, end-of-text among them
  int32_t end_of_text = -1;
  std::vector<Merge> merges;
  bool whole_pretokens = false;  // a pre-token that is a token becomes that token before any merge (tiktoken)
};

// `source` names the file in errors: Error(ExitCode::data) when a byte has no token, when an id is out of
// range, or when there is no end-of-text.
std::unique_ptr<Tokenizer> make_bpe(BpeRules rules, const std::string& source);

// The order in which GPT-2 numbers the 256 bytes: id i is byte kGpt2Bytes[i].
std::array<unsigned char, 256> gpt2_byte_order();

}  // namespace kiln::data
