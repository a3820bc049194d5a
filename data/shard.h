// Token shards in the formats of llm.c: 256 little-endian int32 of header (magic, version, number of tokens,
// zeros), then the tokens. Vocabularies of up to 65536 tokens take uint16 (magic 20240520, version 1), larger
// ones uint32 (magic 20240801, version 7). Every document starts with the end-of-text token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <span>

#include "data/append_file.h"
#include "src/core/file.h"

namespace kiln::data {

struct ShardFormat {
  int32_t magic, version;
  int64_t token_bytes;
};
inline constexpr ShardFormat kShard16{20240520, 1, 2}, kShard32{20240801, 7, 4};
constexpr const ShardFormat& shard_format(int64_t vocab) {
  return vocab <= 65536 ? kShard16 : kShard32;
}

inline constexpr int64_t kShardHeaderBytes = 1024;
inline constexpr int64_t kShardMaxTokens =
    std::numeric_limits<int32_t>::max();  // the header counts in an int32

// Writes one shard under a temporary name (path + ".tmp"); close() fills in the header, syncs and renames.
// The temporary file of a writer that is destroyed before stays, to be continued or removed. Throws
// Error(ExitCode::data) with the path and the system's reason; appending more than kShardMaxTokens is
// refused.
class ShardWriter {
 public:
  // `tokens` > 0 continues a temporary file that has at least so many; what comes after them is cut off.
  ShardWriter(std::filesystem::path path, const ShardFormat& format, int64_t tokens = 0);
  void append(std::span<const int32_t> tokens);  // each fits the format
  int64_t tokens() const { return tokens_; }
  void sync();  // what was appended is on the disk
  void close();

  static std::filesystem::path temporary_path(const std::filesystem::path& path);

 private:
  std::filesystem::path path_;
  ShardFormat format_;
  std::optional<AppendFile> file_;  // until close()
  int64_t tokens_;
};

// A memory-mapped shard; move-only. The constructor looks at header and size, which takes no time even for
// the largest file; tokens are checked when they are read. Throws Error(ExitCode::data) with path, offset and
// remedy when the file is not a shard, is truncated or longer than its header says.
class Shard {
 public:
  Shard(const std::filesystem::path& path, int64_t vocab);

  int64_t tokens() const { return tokens_; }
  const ShardFormat& format() const { return format_; }
  std::span<const std::byte> bytes() const { return file_.bytes(); }  // of the whole file

  // Throws Error(ExitCode::data) with path and offset when a token is not below the vocabulary.
  void read(int64_t begin, int64_t count, int32_t* out) const;
  void verify() const;  // the same for all tokens, without giving them

 private:
  [[noreturn]] void refuse_tokens(int64_t begin, int64_t count) const;

  std::filesystem::path path_;
  int64_t vocab_;
  MappedFile file_;
  ShardFormat format_{};
  int64_t tokens_ = 0;
};

}  // namespace kiln::data
