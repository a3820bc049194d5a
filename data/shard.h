// Token shards in the format of llm.c: 256 little-endian int32 of header (20240520, 1, number of tokens,
// zeros), then the tokens as uint16. Every document starts with the end-of-text token.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>

#include "src/core/file.h"

namespace kiln::data {

inline constexpr int32_t kShardMagic = 20240520;
inline constexpr int32_t kShardVersion = 1;
inline constexpr int64_t kShardHeaderBytes = 1024;
inline constexpr int64_t kShardMaxTokens =
    std::numeric_limits<int32_t>::max();  // the header counts in an int32

// Writes one shard under a temporary name (path + ".tmp"); close() fills in the header, syncs and renames. A
// writer that is destroyed before close() leaves nothing behind. Throws Error(ExitCode::data) with the path
// and the system's reason; appending more than kShardMaxTokens is refused.
class ShardWriter {
 public:
  explicit ShardWriter(std::filesystem::path path);
  ~ShardWriter();
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;
  void append(std::span<const uint16_t> tokens);
  int64_t tokens() const { return tokens_; }
  void close();

 private:
  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
  int64_t tokens_ = 0;
};

// A memory-mapped, validated shard; move-only. Throws Error(ExitCode::data) with path, offset and remedy when
// the file is not a shard, is truncated or longer than its header says, or holds a token >= vocab (every
// token is checked, once).
class Shard {
 public:
  Shard(const std::filesystem::path& path, int64_t vocab);
  std::span<const uint16_t> tokens() const { return tokens_; }

 private:
  MappedFile file_;
  std::span<const uint16_t> tokens_;
};

}  // namespace kiln::data
