// What stands beside the shards of a dataset: dataset.json once it is complete, preparing.json until then.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>

#include "data/document_reader.h"
#include "data/prepare.h"
#include "data/split_writer.h"
#include "data/tokenizer.h"

namespace kiln::data {

struct DatasetDescription {
  std::string tokenizer_name, tokenizer_path, tokenizer_fingerprint;
  int64_t vocab = 0;
  int32_t end_of_text = 0;
  SplitState train, validation;
  int64_t duplicates = 0, empty = 0;
};

// dataset.json of the folder; none when there is none, or none that can be read as such.
std::optional<DatasetDescription> read_description(const std::filesystem::path& folder);

// The document that goes to validation if no other one does.
struct WaitingDocument {
  ReadPosition position;
  int64_t record_bytes = 0;
  uint64_t hash = 0;
  bool operator==(const WaitingDocument&) const = default;
};

// How far a preparation is: everything up to `position` is in shards, dropped or waiting.
struct Journal {
  ReadPosition position;
  SplitState train, validation;
  int64_t duplicates = 0, empty = 0;
  int64_t hashes = 0;  // in the file of hashes
  std::optional<WaitingDocument> waiting;
  bool operator==(const Journal&) const = default;
};

// A folder while a dataset is made in it; one process at a time.
class DatasetFolder {
 public:
  // Makes the folder if need be and locks it. Throws Error(ExitCode::usage) when another process is at work
  // there, and Error(ExitCode::data) when it cannot be used.
  DatasetFolder(const PrepareOptions& options, const Tokenizer& tokenizer);
  ~DatasetFolder();
  DatasetFolder(const DatasetFolder&) = delete;
  DatasetFolder& operator=(const DatasetFolder&) = delete;

  // The dataset in the folder, if it is whole and what these options would make.
  std::optional<DatasetDescription> finished() const;
  // Readies the folder: for going on where a journal of the same options and inputs stops, or for a new
  // start. Throws Error(ExitCode::usage) when something else is there and options.overwrite does not allow to
  // replace it.
  Journal begin();
  void write(const Journal& journal) const;
  // Throws Error(ExitCode::data) when an input is no longer what it was at the start.
  void check_inputs() const;
  void finish(const Journal& journal);
  void discard() const;  // removes everything that this dataset is, complete or not

  std::filesystem::path hashes_path() const { return folder_ / "preparing.documents"; }
  SplitLayout train_layout() const;
  SplitLayout validation_layout() const;

 private:
  std::filesystem::path journal_path() const { return folder_ / "preparing.json"; }
  std::filesystem::path description_path() const { return folder_ / "dataset.json"; }
  std::optional<Journal> intact_journal(const nlohmann::ordered_json& file) const;
  void put_back(const Journal& journal) const;
  std::array<std::pair<const SplitState*, SplitLayout>, 2> splits(const Journal& journal) const;
  void remove_unfinished() const;

  const PrepareOptions& options_;
  int64_t vocab_;
  std::filesystem::path folder_;
  std::string wanted_;  // JSON: options, tokenizer and inputs, which the result depends on
  int lock_ = -1;
};

}  // namespace kiln::data
