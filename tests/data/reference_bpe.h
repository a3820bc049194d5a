// Byte-pair encoding and its training, written as naively as the definition: every step looks at everything
// anew.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "data/bpe.h"

namespace kiln::data::testing {

// One pre-token. Tokens are compared by their bytes where `rules` come from a tiktoken file
// (whole_pretokens), by the pair that was merged otherwise.
inline std::vector<int32_t> reference_encode(const BpeRules& rules, const std::string& pretoken) {
  const auto id_of = [&](const std::string& bytes) {
    for (size_t id = 0; id < rules.tokens.size(); id++) {
      const bool special =
          std::count(rules.special.begin(), rules.special.end(), static_cast<int32_t>(id)) > 0;
      if (!special && rules.tokens[id] == bytes) return static_cast<int32_t>(id);
    }
    return -1;
  };
  if (rules.whole_pretokens && id_of(pretoken) >= 0) return {id_of(pretoken)};
  std::vector<int32_t> ids;
  for (const char byte : pretoken) ids.push_back(id_of(std::string(1, byte)));
  for (;;) {
    const Merge* best = nullptr;
    size_t where = 0;
    for (size_t i = 0; i + 1 < ids.size(); i++) {
      for (const Merge& merge : rules.merges) {
        if (merge.left != ids[i] || merge.right != ids[i + 1]) continue;
        if (!best || merge.rank < best->rank) {
          best = &merge;
          where = i;
        }
      }
    }
    if (!best) return ids;
    ids[where] = best->result;
    ids.erase(ids.begin() + static_cast<int64_t>(where) + 1);
  }
}

// Tokens as bytes, in the order in which they are learnt, and the merges as pairs of ids.
struct ReferenceTraining {
  std::vector<std::string> tokens;
  std::vector<std::pair<int, int>> merges;
};

inline ReferenceTraining reference_train(const std::vector<std::pair<std::string, int64_t>>& counts,
                                         size_t vocab) {
  ReferenceTraining result;
  for (const unsigned char byte : gpt2_byte_order()) result.tokens.emplace_back(1, static_cast<char>(byte));
  const auto id_of = [&](const std::string& bytes) {
    const auto found = std::find(result.tokens.begin(), result.tokens.end(), bytes);
    return static_cast<int>(found - result.tokens.begin());
  };
  std::vector<std::vector<int>> words;
  for (const auto& [word, count] : counts) {
    words.emplace_back();
    for (const char byte : word) words.back().push_back(id_of(std::string(1, byte)));
  }
  while (result.tokens.size() + 1 < vocab) {
    std::map<std::pair<int, int>, int64_t> pairs;
    for (size_t w = 0; w < words.size(); w++) {
      for (size_t i = 0; i + 1 < words[w].size(); i++)
        pairs[{words[w][i], words[w][i + 1]}] += counts[w].second;
    }
    std::pair<int, int> best;
    int64_t most = 1;
    for (const auto& [pair, count] : pairs) {  // in the order of pairs, so the first of equals wins
      if (count > most) {
        most = count;
        best = pair;
      }
    }
    if (most < 2) return result;
    const std::string bytes =
        result.tokens[static_cast<size_t>(best.first)] + result.tokens[static_cast<size_t>(best.second)];
    const int id = id_of(bytes);
    if (id == static_cast<int>(result.tokens.size())) result.tokens.push_back(bytes);
    result.merges.push_back(best);
    for (auto& word : words) {
      std::vector<int> merged;
      for (size_t i = 0; i < word.size(); i++) {
        const bool here = i + 1 < word.size() && std::pair(word[i], word[i + 1]) == best;
        merged.push_back(here ? id : word[i]);
        i += here;
      }
      word = merged;
    }
  }
  return result;
}

}  // namespace kiln::data::testing
