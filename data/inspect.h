// What is in token shards.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/dataset_folder.h"
#include "data/shard.h"

namespace kiln::data {

struct InspectOptions {
  std::filesystem::path path;  // a shard, or a folder with shards
  std::string tokenizer;       // empty: the one that dataset.json names, if there is one
  int64_t most_frequent = 10;  // tokens to list
  int64_t text_tokens = 200;   // to decode, from the beginning of each split
  bool verify = false;         // checksums of the shards too, which dataset.json has
};

struct InspectedShard {
  std::string name;
  ShardFormat format{};
  int64_t tokens = 0, documents = 0;
};

struct Inspection {
  std::optional<DatasetDescription> description;  // dataset.json beside the shards
  std::string tokenizer;                          // its name; empty: unknown
  std::string tokenizer_problem;                  // why dataset.json's could not be opened; else empty
  int32_t end_of_text = -1;
  bool end_of_text_guessed = false;  // it is the first token of the first shard
  std::vector<InspectedShard> shards;
  struct Frequent {
    int32_t token;
    int64_t count;
    std::string text;  // empty: no tokenizer
  };
  std::vector<Frequent> frequent;
  std::vector<std::pair<std::string, std::string>> texts;  // shard, how it begins
  bool verified = false;
};

// Reads every token once. Throws Error(ExitCode::data) when a file is no sound shard, holds a token outside
// the vocabulary, or is not what dataset.json says: number of tokens, of documents and, with options.verify,
// the checksum. `progress` gets bytes done and bytes altogether.
Inspection inspect(const InspectOptions& options, const std::function<void(int64_t, int64_t)>& progress = {});

}  // namespace kiln::data
