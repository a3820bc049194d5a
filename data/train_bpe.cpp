#include "data/train_bpe.h"

#include <algorithm>
#include <array>
#include <memory>
#include <queue>
#include <span>
#include <thread>
#include <unordered_map>

#include "data/pretokenizer.h"
#include "src/core/error.h"
#include "src/core/parallel.h"

namespace kiln::data {
namespace {

// ---- Counting ----

struct ViewHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
using CountMap = std::unordered_map<std::string, int64_t, ViewHash, std::equal_to<>>;

struct Counter {
  explicit Counter(const Pretokenizer& pretokenizer) : pretokens(pretokenizer) {}

  void add(std::string_view text) {
    std::string_view pretoken;
    for (pretokens.start(text); pretokens.next(pretoken);) {
      const auto found = counts.find(pretoken);
      if (found != counts.end()) {
        found->second++;
      } else {
        counts.emplace(pretoken, 1);
      }
    }
  }

  Pretokens pretokens;
  CountMap counts;
};

// ---- Merging ----

using PairKey = uint64_t;
PairKey key_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
}

struct Candidate {
  int64_t count;
  PairKey pair;
  bool operator<(const Candidate& other) const {  // the top of the heap is the best
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

class Trainer {
 public:
  explicit Trainer(const PretokenCounts& counts) {
    const auto order = gpt2_byte_order();
    std::array<int32_t, 256> id_of{};
    for (size_t i = 0; i < order.size(); i++) {
      rules_.tokens.emplace_back(1, static_cast<char>(order[i]));
      id_of[order[i]] = static_cast<int32_t>(i);
    }
    for (size_t id = 0; id < rules_.tokens.size(); id++)
      ids_.emplace(rules_.tokens[id], static_cast<int32_t>(id));
    for (const auto& [pretoken, count] : counts) {
      words_.push_back({symbols_.size(), pretoken.size(), count});
      for (const char byte : pretoken) symbols_.push_back(id_of[static_cast<unsigned char>(byte)]);
    }
    for (size_t w = 0; w < words_.size(); w++) {
      const auto symbols = symbols_of(words_[w]);
      for (size_t i = 0; i + 1 < symbols.size(); i++) add(symbols[i], symbols[i + 1], words_[w].count, w);
    }
    for (const auto& [pair, found] : pairs_) heap_.push({found.count, pair});
    grown_ = {};
  }

  // False when no pair comes twice.
  bool merge_best() {
    while (!heap_.empty()) {
      const Candidate best = heap_.top();
      heap_.pop();
      const auto found = pairs_.find(best.pair);
      const int64_t count = found == pairs_.end() ? 0 : found->second.count;
      if (count != best.count) {
        if (count > 0) heap_.push({count, best.pair});
        continue;
      }
      if (count < 2) return false;
      merge(best.pair);
      return true;
    }
    return false;
  }

  int64_t tokens() const { return static_cast<int64_t>(rules_.tokens.size()); }

  BpeRules finish() {
    rules_.end_of_text = static_cast<int32_t>(rules_.tokens.size());
    rules_.special = {rules_.end_of_text};
    rules_.tokens.emplace_back(kEndOfTextName);
    return std::move(rules_);
  }

 private:
  struct Word {
    size_t begin, length;  // in symbols_
    int64_t count;
  };
  struct Pair {
    int64_t count = 0;          // over all words
    std::vector<size_t> words;  // that hold it, or held it once
  };

  std::span<int32_t> symbols_of(const Word& word) { return {symbols_.data() + word.begin, word.length}; }

  void add(int32_t left, int32_t right, int64_t count, size_t word) {
    Pair& pair = pairs_[key_of(left, right)];
    pair.count += count;
    if (pair.words.empty() || pair.words.back() != word) pair.words.push_back(word);
    grown_.push_back(key_of(left, right));
  }

  void remove(int32_t left, int32_t right, int64_t count) { pairs_[key_of(left, right)].count -= count; }

  // The id of a token of these bytes, which can be there already, made of another pair.
  int32_t token_of(const std::string& bytes) {
    const auto [place, is_new] = ids_.emplace(bytes, static_cast<int32_t>(rules_.tokens.size()));
    if (is_new) rules_.tokens.push_back(bytes);
    return place->second;
  }

  void merge(PairKey pair) {
    const auto left = static_cast<int32_t>(pair >> 32), right = static_cast<int32_t>(pair & 0xFFFFFFFFu);
    const int32_t result =
        token_of(rules_.tokens[static_cast<size_t>(left)] + rules_.tokens[static_cast<size_t>(right)]);
    rules_.merges.push_back({left, right, result, static_cast<int32_t>(rules_.merges.size())});
    const std::vector<size_t> words = std::move(pairs_[pair].words);
    pairs_.erase(pair);
    for (const size_t w : words) merge_in(w, left, right, result);
    pairs_.erase(pair);  // neighbours that were the same pair ("aaa") counted it down
    std::sort(grown_.begin(), grown_.end());
    grown_.erase(std::unique(grown_.begin(), grown_.end()), grown_.end());
    for (const PairKey key : grown_) {
      const auto found = pairs_.find(key);
      if (found != pairs_.end() && found->second.count > 0) heap_.push({found->second.count, key});
    }
    grown_.clear();
  }

  void merge_in(size_t w, int32_t left, int32_t right, int32_t result) {
    Word& word = words_[w];
    const auto symbols = symbols_of(word);
    size_t written = 0;
    for (size_t i = 0; i < symbols.size(); i++) {
      if (i + 1 == symbols.size() || symbols[i] != left || symbols[i + 1] != right) {
        symbols[written++] = symbols[i];
        continue;
      }
      if (written > 0) {
        remove(symbols[written - 1], left, word.count);
        add(symbols[written - 1], result, word.count, w);
      }
      if (i + 2 < symbols.size()) {
        remove(right, symbols[i + 2], word.count);
        add(result, symbols[i + 2], word.count, w);
      }
      symbols[written++] = result;
      i++;
    }
    word.length = written;
  }

  BpeRules rules_;
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<int32_t> symbols_;  // of all words, one after the other
  std::vector<Word> words_;
  std::unordered_map<PairKey, Pair> pairs_;
  std::priority_queue<Candidate> heap_;  // counts may be out of date: too high, never too low
  std::vector<PairKey> grown_;           // pairs whose count rose during a merge
};

}  // namespace

PretokenCounts count_pretokens(const ReadOptions& options, int threads,
                               const std::function<void(const CountProgress&)>& progress) {
  constexpr int64_t kBatchBytes = 1 << 22;
  ThreadPool pool(threads > 0 ? threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
  const Pretokenizer pretokenizer;
  std::vector<std::unique_ptr<Counter>> counters;
  for (int i = 0; i < pool.size(); i++) counters.push_back(std::make_unique<Counter>(pretokenizer));
  DocumentReader reader(options);
  int64_t documents = 0;
  if (progress) progress({0, reader.bytes_total(), 0});
  for (std::vector<Record> records; reader.read(kBatchBytes, records); records.clear()) {
    pool.parallel_for(static_cast<int64_t>(records.size()), 1, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t i = begin; i < end; i++) {
        counters[static_cast<size_t>(worker)]->add(
            reader.text_of(std::move(records[static_cast<size_t>(i)])));
      }
    });
    documents += static_cast<int64_t>(records.size());
    if (progress) progress({reader.bytes_done(), reader.bytes_total(), documents});
  }
  CountMap& all = counters[0]->counts;
  for (size_t i = 1; i < counters.size(); i++) {
    for (const auto& [pretoken, count] : counters[i]->counts) all[pretoken] += count;
    counters[i].reset();
  }
  PretokenCounts counts(all.begin(), all.end());
  std::sort(counts.begin(), counts.end());
  return counts;
}

void check_vocab_size(int64_t vocab) {
  if (vocab < 257 || vocab > kMaxVocab) {
    throw Error(ExitCode::usage, fmt::format("a vocabulary of {} tokens", vocab),
                fmt::format("give 257 (256 bytes and end-of-text) to {}", kMaxVocab));
  }
}

BpeRules train_bpe(const PretokenCounts& counts, int64_t vocab,
                   const std::function<void(int64_t tokens)>& progress) {
  check_vocab_size(vocab);
  Trainer trainer(counts);
  while (trainer.tokens() < vocab - 1) {
    if (!trainer.merge_best()) {
      throw Error(ExitCode::data,
                  fmt::format("the text gives only {} of {} tokens: no pair of tokens comes twice any more",
                              trainer.tokens() + 1, vocab),
                  "give more text, or ask for a smaller vocabulary");
    }
    if (progress && trainer.tokens() % 256 == 0) progress(trainer.tokens());
  }
  return trainer.finish();
}

}  // namespace kiln::data
