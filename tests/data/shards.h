// Shards written byte by byte, independent of ShardWriter, so that they can also be wrong.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kiln::data::testing {

inline void append_little_endian(std::string& out, uint32_t value, int bytes) {
  for (int i = 0; i < bytes; i++) out += static_cast<char>(value >> (8 * i) & 0xff);
}

// A header with the given count, whatever the tokens are.
inline std::string shard_bytes(const std::vector<uint16_t>& tokens, int64_t count, uint32_t magic = 20240520,
                               uint32_t version = 1) {
  std::string out;
  append_little_endian(out, magic, 4);
  append_little_endian(out, version, 4);
  append_little_endian(out, static_cast<uint32_t>(count), 4);
  out.resize(1024);
  for (const uint16_t token : tokens) append_little_endian(out, token, 2);
  return out;
}

inline std::string shard_bytes(const std::vector<uint16_t>& tokens) {
  return shard_bytes(tokens, static_cast<int64_t>(tokens.size()));
}

}  // namespace kiln::data::testing
