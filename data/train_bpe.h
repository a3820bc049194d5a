// Learns a byte-level BPE vocabulary from text.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/bpe.h"
#include "data/document_reader.h"

namespace kiln::data {

// Pre-tokens and how often each came.
using PretokenCounts = std::vector<std::pair<std::string, int64_t>>;

struct CountProgress {
  int64_t bytes_done, bytes_total;  // of the inputs; total -1: unknown
  int64_t documents;
};

// Counts the pre-tokens of all documents, on several threads (0: all that the machine has); in byte order, so
// whatever the number of threads the result is the same. Memory grows with the number of different
// pre-tokens. Errors as in document_reader.h.
PretokenCounts count_pretokens(const ReadOptions& options, int threads,
                               const std::function<void(const CountProgress&)>& progress = {});

// Throws Error(ExitCode::usage) unless `vocab` is in [257, kMaxVocab].
void check_vocab_size(int64_t vocab);

// The rules that merging the most frequent pair of neighbours again and again gives: the 256 bytes in GPT-2's
// order, then the merges, then end-of-text, `vocab` tokens together. Of pairs that are equally frequent the
// one with the smaller left id comes first, then the one with the smaller right id. A pair must come at least
// twice. `progress` gets the number of tokens now and then. Throws Error(ExitCode::data) when the text is too
// short for that many tokens.
BpeRules train_bpe(const PretokenCounts& counts, int64_t vocab,
                   const std::function<void(int64_t tokens)>& progress = {});

}  // namespace kiln::data
