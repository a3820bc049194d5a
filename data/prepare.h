// From documents to token shards. Whether a document is for training or for validation depends on its text
// alone, so it stays where it is when other documents come or go. Exact duplicates are dropped.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "data/document_reader.h"
#include "data/split_writer.h"
#include "data/text_cut.h"

namespace kiln::data {

struct PrepareOptions {
  ReadOptions read;
  std::filesystem::path folder;     // gets train_000001.bin ..., validation_000000.bin ..., dataset.json
  std::string tokenizer = "bytes";  // as open_tokenizer() takes it
  double validation_fraction =
      0.02;  // of the documents (text_cut.h: or of the text), in [0, 1); 0: no validation
  int64_t shard_tokens = 100'000'000;  // at most, in a shard; in [1, kShardMaxTokens]
  bool keep_duplicates = false;        // otherwise memory grows by 23 to 46 bytes a document (hash_set.h)
  bool overwrite = false;              // replace what is in the folder
  int threads = 0;                     // 0: as many as the machine has
  int64_t journal_bytes = int64_t{64}
                          << 20;  // of input between two entries: what a killed run does again at most
};

struct PrepareSummary {
  SplitState train, validation;
  int64_t duplicates = 0;  // documents dropped because their text came before
  int64_t empty = 0;       // documents without any text, dropped as well
  std::string tokenizer;   // its name
  int64_t vocab = 0;
  TextCut cut;                 // of a single text
  bool already_there = false;  // the folder held the result of the same options and unchanged inputs
  int64_t resumed_bytes = 0;   // of input that an interrupted run had done
};

struct PrepareProgress {
  int64_t bytes_done, bytes_total;  // of the inputs; total -1: unknown, as with a stream
  int64_t documents, tokens;        // written so far, both splits
};

// Reads, encodes and writes in memory that does not depend on the size of the inputs: some 26 MB for two
// threads, very long documents and the hashes of documents apart. Threads encode; what is written depends on
// inputs and options alone.
//
// A shard gets its final name when it is complete, and dataset.json (tokenizer, counts, shards with
// checksums, inputs) comes last: where that is, the dataset is complete. Until then there is preparing.json,
// the journal: the same call after a kill, a full disk or a power failure goes on from its last entry and
// ends with the same bytes. A stream (-) cannot be continued.
//
// With a positive validation_fraction both splits get a document: when chance gives validation none, the one
// that came nearest goes there; a single text that is too short for chance is cut in two (text_cut.h). `progress` (may be empty) is called at the start, about every mebibyte of
// input a thread, and at the end. Throws Error(ExitCode::usage) for options out of range and for a folder
// that holds something else, and Error(ExitCode::data), with file, line and byte offset, for inputs that
// cannot be read or give no document.
PrepareSummary prepare(const PrepareOptions& options,
                       const std::function<void(const PrepareProgress&)>& progress = {});

}  // namespace kiln::data
