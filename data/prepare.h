// From documents to token shards. Inputs are files: JSONL (one object per line with a "text" field) or plain
// text. Whether a document is for training or for validation depends on its text alone, so it stays where it
// is when other documents come or go. Exact duplicates are dropped.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace kiln::data {

struct PrepareOptions {
  std::vector<std::filesystem::path> inputs;  // *.jsonl, *.txt; read in this order, line by line
  std::filesystem::path folder;  // gets train_000001.bin ..., validation_000000.bin ..., dataset.json
  std::string tokenizer = "bytes";
  double validation_fraction = 0.02;     // of the documents, in [0, 1); 0: no validation shards
  int64_t shard_tokens = 100'000'000;    // at most, in a shard; in [1, kShardMaxTokens]
  int64_t text_document_bytes = 50'000;  // longer .txt files are cut, best at blank lines; 0: never
  bool overwrite = false;                // replace another dataset in the folder
};

struct SplitSummary {
  int64_t documents = 0, tokens = 0, shards = 0;
};

struct PrepareSummary {
  SplitSummary train, validation;
  int64_t duplicates = 0;  // documents dropped because their text came before
  int64_t empty = 0;       // documents without any text, dropped as well
  int64_t vocab = 0;
  bool already_there = false;  // the folder held the result of the same options and unchanged inputs
};

struct PrepareProgress {
  int64_t bytes_done, bytes_total;  // of the input files
  int64_t documents, tokens;        // written so far, both splits
};

// Writes the shards, then, last and atomically, dataset.json (tokenizer, vocabulary, counts, inputs): where
// that is, the dataset is complete. A shard gets its name when it is complete; what an interrupted run left
// is replaced (a file named "preparing" tells). With a positive validation_fraction both splits get a
// document: when chance gives validation none, the one that came nearest goes there. `progress` (may be
// empty) is called about every mebibyte of input and at the end. Throws Error(ExitCode::usage) for options
// out of range and a folder that holds another dataset, and Error(ExitCode::data), with file, line and byte
// offset, for inputs that cannot be read or give no document.
PrepareSummary prepare(const PrepareOptions& options,
                       const std::function<void(const PrepareProgress&)>& progress = {});

}  // namespace kiln::data
