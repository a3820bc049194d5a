// The shards of one split of a dataset.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/shard.h"

namespace kiln::data {

struct ShardEntry {
  std::string file;  // its name in the folder
  int64_t tokens = 0;
  std::string checksum;  // XXH3 of the file, 16 hex digits
  bool operator==(const ShardEntry&) const = default;
};

struct SplitState {
  int64_t documents = 0, tokens = 0;
  int64_t bytes = 0;               // of text
  std::vector<ShardEntry> shards;  // complete ones
  int64_t open_tokens = 0;         // in the shard after them; 0: there is none yet
  bool operator==(const SplitState&) const = default;
};

struct SplitLayout {
  std::filesystem::path folder;
  std::string name;          // "train", "validation"
  int64_t first_number = 0;  // of the shards
  int64_t shard_tokens = 0;  // in a shard, at most
  ShardFormat format = kShard16;
};

std::filesystem::path shard_path(const SplitLayout& layout, int64_t number);  // train_000001.bin

// Documents in, full shards out, a document running on into the next one if need be. Errors as in shard.h.
class SplitWriter {
 public:
  // Goes on from a state in which the writer was after a sync().
  SplitWriter(SplitLayout layout, SplitState state);
  void add(std::span<const int32_t> tokens, int64_t text_bytes);
  void sync();
  void close();
  const SplitState& state() const { return state_; }

 private:
  void close_shard();

  SplitLayout layout_;
  SplitState state_;
  std::unique_ptr<ShardWriter> shard_;
};

}  // namespace kiln::data
