#include "data/bpe.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <queue>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "data/pretokenizer.h"
#include "src/core/error.h"

namespace kiln::data {
namespace {

uint64_t mix(uint64_t x) {  // the finaliser of MurmurHash3
  x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdu;
  x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53u;
  return x ^ (x >> 33);
}

// (left, right) -> what they become and how early. Open addressing, never more than half full.
class MergeTable {
 public:
  explicit MergeTable(const std::vector<Merge>& merges) {
    size_t slots = 16;
    while (slots < 2 * merges.size()) slots *= 2;
    slots_.assign(slots, {kNone, 0, 0});
    for (const Merge& merge : merges) {
      Slot& slot = slots_[place(key(merge.left, merge.right))];
      if (slot.key == kNone || merge.rank < slot.rank)
        slot = {key(merge.left, merge.right), merge.rank, merge.result};
    }
  }

  struct Slot {
    uint64_t key;
    int32_t rank, result;
  };

  const Slot* find(int32_t left, int32_t right) const {
    const Slot& slot = slots_[place(key(left, right))];
    return slot.key == kNone ? nullptr : &slot;
  }

 private:
  static constexpr uint64_t kNone = ~uint64_t{0};  // ids are never negative
  static uint64_t key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  }
  size_t place(uint64_t k) const {  // of the key, or of the empty slot where it belongs
    size_t i = mix(k) & (slots_.size() - 1);
    while (slots_[i].key != k && slots_[i].key != kNone) i = (i + 1) & (slots_.size() - 1);
    return i;
  }

  std::vector<Slot> slots_;
};

// The last short pre-tokens and what they were encoded to: text repeats itself, so nearly all of it is found
// here. Each pre-token has one place, where a newcomer of the same place replaces it.
class WordCache {
 public:
  static constexpr size_t kBytes = 30, kTokens = 8;
  struct Word {
    std::array<unsigned char, 32> key;  // the bytes, zeros, their number; number 0: nothing here
    std::array<int32_t, kTokens> tokens;
    uint32_t count;
  };

  WordCache() : words_(kWords) {}

  // The place of a pre-token of at most kBytes bytes, and whether it is there already.
  std::pair<Word*, bool> find(std::string_view pretoken) {
    std::array<unsigned char, 32> key{};
    std::memcpy(key.data(), pretoken.data(), pretoken.size());
    key.back() = static_cast<unsigned char>(pretoken.size());
    std::array<uint64_t, 4> parts;
    std::memcpy(parts.data(), key.data(), sizeof parts);
    const uint64_t hash = mix(parts[0] ^ mix(parts[1] ^ mix(parts[2] ^ mix(parts[3]))));
    Word& word = words_[hash & (kWords - 1)];
    const bool there = word.key == key;
    word.key = key;
    return {&word, there};
  }

 private:
  static constexpr size_t kWords = 1 << 16;  // 4.5 MB
  std::vector<Word> words_;
};

class Bpe final : public Tokenizer {
 public:
  explicit Bpe(BpeRules rules) : rules_(std::move(rules)), merges_(rules_.merges) {
    const auto& tokens = rules_.tokens;
    std::vector<char> special(tokens.size());
    for (const int32_t id : rules_.special) special[static_cast<size_t>(id)] = 1;
    for (size_t id = 0; id < tokens.size(); id++) {
      if (special[id] || tokens[id].empty()) continue;
      if (tokens[id].size() == 1)
        byte_ids_[static_cast<unsigned char>(tokens[id][0])] = static_cast<int32_t>(id);
      if (rules_.whole_pretokens) whole_.emplace(tokens[id], static_cast<int32_t>(id));
    }
  }

  int64_t vocab() const override { return static_cast<int64_t>(rules_.tokens.size()); }
  int32_t end_of_text() const override { return rules_.end_of_text; }
  std::string name() const override { return fmt::format("bpe-{}", vocab()); }

  std::string fingerprint() const override {
    XXH3_state_t* state = XXH3_createState();
    XXH3_128bits_reset(state);
    const auto add = [state](const void* data, size_t bytes) { XXH3_128bits_update(state, data, bytes); };
    const auto add_number = [&](int64_t x) { add(&x, sizeof x); };
    for (const auto& token : rules_.tokens) {
      add_number(static_cast<int64_t>(token.size()));
      add(token.data(), token.size());
    }
    for (const Merge& merge : rules_.merges) add(&merge, sizeof merge);
    for (const int32_t id : rules_.special) add_number(id);
    add_number(rules_.end_of_text);
    add_number(rules_.whole_pretokens);
    const XXH128_hash_t hash = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
  }

  void encode(std::string_view text, std::vector<int32_t>& tokens) const override {
    auto scratch = borrow();
    std::string_view pretoken;
    for (scratch->pretokens.start(text); scratch->pretokens.next(pretoken);) {
      if (pretoken.size() > WordCache::kBytes) {
        merge(pretoken, *scratch, tokens);
        continue;
      }
      const auto [word, there] = scratch->cache.find(pretoken);
      if (there) {
        tokens.insert(tokens.end(), word->tokens.begin(), word->tokens.begin() + word->count);
        continue;
      }
      const size_t before = tokens.size();
      merge(pretoken, *scratch, tokens);
      const size_t count = tokens.size() - before;
      if (count > WordCache::kTokens) {
        word->key = {};
        continue;
      }
      word->count = static_cast<uint32_t>(count);
      std::copy_n(tokens.end() - static_cast<int64_t>(count), count, word->tokens.begin());
    }
    give_back(std::move(scratch));
  }

  void decode(std::span<const int32_t> tokens, std::string& text) const override {
    for (const int32_t token : tokens) {
      const bool exists = token >= 0 && token < vocab() && !rules_.tokens[static_cast<size_t>(token)].empty();
      if (token == rules_.end_of_text) {
        text += "\n\n";
      } else if (exists) {
        text += rules_.tokens[static_cast<size_t>(token)];
      } else {
        text += "\xEF\xBF\xBD";
      }
    }
  }

 private:
  struct Symbol {
    int32_t id;  // -1: swallowed by the one before it
    int32_t previous, next;
  };
  struct Candidate {
    int32_t rank, position;  // of the left symbol
    int32_t left, right, result;
    bool operator<(const Candidate& other) const {  // the top of the heap is the best
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };
  // What one thread needs while it encodes.
  struct Scratch {
    explicit Scratch(const Pretokenizer& pretokenizer) : pretokens(pretokenizer) {}
    Pretokens pretokens;
    WordCache cache;
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  void propose(Scratch& s, int32_t position) const {
    const Symbol& left = s.symbols[static_cast<size_t>(position)];
    if (left.next < 0) return;
    const int32_t right = s.symbols[static_cast<size_t>(left.next)].id;
    if (const auto* merge = merges_.find(left.id, right)) {
      s.heap.push_back({merge->rank, position, left.id, right, merge->result});
      std::push_heap(s.heap.begin(), s.heap.end());
    }
  }

  void merge(std::string_view pretoken, Scratch& s, std::vector<int32_t>& tokens) const {
    if (rules_.whole_pretokens) {
      const auto found = whole_.find(pretoken);
      if (found != whole_.end()) {
        tokens.push_back(found->second);
        return;
      }
    }
    const auto n = static_cast<int32_t>(pretoken.size());
    s.symbols.clear();
    s.heap.clear();
    for (int32_t i = 0; i < n; i++) {
      const auto byte = static_cast<unsigned char>(pretoken[static_cast<size_t>(i)]);
      s.symbols.push_back({byte_ids_[byte], i - 1, i + 1 < n ? i + 1 : -1});
    }
    for (int32_t i = 0; i < n; i++) propose(s, i);
    while (!s.heap.empty()) {
      const Candidate best = s.heap.front();
      std::pop_heap(s.heap.begin(), s.heap.end());
      s.heap.pop_back();
      Symbol& left = s.symbols[static_cast<size_t>(best.position)];
      if (left.id != best.left || left.next < 0) continue;  // merged away since
      Symbol& right = s.symbols[static_cast<size_t>(left.next)];
      if (right.id != best.right) continue;
      left.id = best.result;
      right.id = -1;
      left.next = right.next;
      if (left.next >= 0) s.symbols[static_cast<size_t>(left.next)].previous = best.position;
      propose(s, best.position);
      if (left.previous >= 0) propose(s, left.previous);
    }
    for (int32_t i = 0; i >= 0; i = s.symbols[static_cast<size_t>(i)].next) {
      tokens.push_back(s.symbols[static_cast<size_t>(i)].id);
    }
  }

  std::unique_ptr<Scratch> borrow() const {
    {
      const std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        auto scratch = std::move(idle_.back());
        idle_.pop_back();
        return scratch;
      }
    }
    return std::make_unique<Scratch>(pretokenizer_);
  }

  void give_back(std::unique_ptr<Scratch> scratch) const {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(scratch));
  }

  BpeRules rules_;
  MergeTable merges_;
  std::array<int32_t, 256> byte_ids_{};
  std::unordered_map<std::string_view, int32_t> whole_;  // views into rules_.tokens
  Pretokenizer pretokenizer_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> idle_;
};

}  // namespace

std::array<unsigned char, 256> gpt2_byte_order() {
  std::array<unsigned char, 256> order{};
  size_t n = 0;
  const auto printable = [](int byte) {  // of Latin-1, but for the soft hyphen
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
  };
  for (const bool first : {true, false}) {
    for (int byte = 0; byte < 256; byte++) {
      if (printable(byte) == first) order[n++] = static_cast<unsigned char>(byte);
    }
  }
  return order;
}

std::unique_ptr<Tokenizer> make_bpe(BpeRules rules, const std::string& source) {
  const auto check = [&](bool good, const std::string& what, const char* hint) {
    if (!good) throw Error(ExitCode::data, fmt::format("{}: {}", source, what), hint);
  };
  constexpr const char* kOther =
      "take the file of a byte-level BPE, such as GPT-2's, or train one: "
      "kiln data train-tokenizer --help";
  const auto size = static_cast<int64_t>(rules.tokens.size());
  check(size <= kMaxVocab, fmt::format("{} tokens are more than {}", size, kMaxVocab), kOther);
  check(rules.end_of_text >= 0 && rules.end_of_text < size,
        fmt::format("no end-of-text token ({})", kEndOfTextName), kOther);
  std::array<bool, 256> there{};
  std::vector<char> special(rules.tokens.size());
  for (const int32_t id : rules.special) special[static_cast<size_t>(id)] = 1;
  check(special[static_cast<size_t>(rules.end_of_text)], "end-of-text is a token of text, too", kOther);
  for (size_t id = 0; id < rules.tokens.size(); id++) {
    if (!special[id] && rules.tokens[id].size() == 1)
      there[static_cast<unsigned char>(rules.tokens[id][0])] = true;
  }
  for (size_t byte = 0; byte < 256; byte++) {
    check(there[byte],
          fmt::format("no token for the byte 0x{:02x}, so not every text could be encoded", byte), kOther);
  }
  return std::make_unique<Bpe>(std::move(rules));
}

}  // namespace kiln::data
