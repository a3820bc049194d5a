#include "data/shard.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

#include "src/core/error.h"

namespace kiln::data {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are little-endian and read in place");

using Header = std::array<int32_t, kShardHeaderBytes / sizeof(int32_t)>;

constexpr const char* kPrepareHint = "write shards with `kiln data prepare`";
constexpr const char* kDamagedHint = "the file is damaged or unfinished: copy it again or prepare it anew";

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& what, std::string hint) {
  throw Error(ExitCode::data, fmt::format("{}: {}", path.string(), what), std::move(hint));
}

// What a file with this number at its start is, if it is something that people mistake for a token shard.
std::string describe_magic(int32_t magic) {
  switch (magic) {
    case 20240522:
      return "a multiple-choice evaluation set, not training text";
    case 20240326:
      return "a model file of llm.c, not tokens";
    case 20240327:
      return "a debug state of llm.c, not tokens";
    case 0:
      return "an unfinished shard (its header is still empty)";
    default:
      break;
  }
  if (__builtin_bswap32(static_cast<uint32_t>(magic)) == kShard16.magic) {
    return "a token shard in big-endian byte order";
  }
  return "not a token shard";
}

ShardFormat check_header(const std::filesystem::path& path, const Header& header, int64_t file_bytes) {
  const int32_t magic = header[0], version = header[1], tokens = header[2];
  if (magic != kShard16.magic && magic != kShard32.magic) {
    fail(path,
         fmt::format("{}: it starts with {}, not {} (byte offset 0)", describe_magic(magic), magic,
                     kShard16.magic),
         kPrepareHint);
  }
  const ShardFormat& format = magic == kShard16.magic ? kShard16 : kShard32;
  if (version != format.version) {
    fail(path,
         fmt::format("shard version {} at byte offset 4; this program reads version {}", version,
                     format.version),
         kPrepareHint);
  }
  if (tokens < 0) fail(path, fmt::format("a count of {} tokens at byte offset 8", tokens), kDamagedHint);
  const int64_t expected = kShardHeaderBytes + int64_t{tokens} * format.token_bytes;
  if (file_bytes != expected) {
    fail(path,
         fmt::format("the header counts {} tokens, which makes {} bytes, but the file has {}: {} bytes {}",
                     tokens, expected, file_bytes, std::abs(file_bytes - expected),
                     file_bytes < expected ? "are missing" : "too many"),
         kDamagedHint);
  }
  return format;
}

// The tokens of a mapped shard, which begin at a multiple of their size.
template <class Token>
std::span<const Token> tokens_of(std::span<const std::byte> file, int64_t begin, int64_t count) {
  const auto* all = reinterpret_cast<const Token*>(file.data() + kShardHeaderBytes);
  return {all + begin, static_cast<size_t>(count)};
}

template <class Token>
uint32_t copy_and_find_largest(std::span<const Token> tokens, int32_t* out) {
  Token result = 0;
  for (size_t i = 0; i < tokens.size(); i++) {
    out[i] = static_cast<int32_t>(tokens[i]);
    result = std::max(result, tokens[i]);
  }
  return result;
}

// A plain maximum over blocks of constant length, which the compiler vectorises.
template <class Token>
uint32_t find_largest(std::span<const Token> tokens) {
  constexpr size_t kBlock = 1024;
  Token result = 0;
  for (; tokens.size() >= kBlock; tokens = tokens.subspan(kBlock)) {
    for (size_t i = 0; i < kBlock; i++) result = std::max(result, tokens[i]);
  }
  for (const Token token : tokens) result = std::max(result, token);
  return result;
}

}  // namespace

std::filesystem::path ShardWriter::temporary_path(const std::filesystem::path& path) {
  return path.string() + ".tmp";
}

ShardWriter::ShardWriter(std::filesystem::path path, const ShardFormat& format, int64_t tokens)
    : path_(std::move(path)), format_(format), tokens_(tokens) {
  file_.emplace(temporary_path(path_), tokens > 0 ? kShardHeaderBytes + tokens * format.token_bytes : 0);
  const Header empty{};  // also where a header is: a file without its final name has none
  if (tokens > 0) {
    file_->write_front(empty.data(), sizeof empty);
  } else {
    file_->append(empty.data(), sizeof empty);
  }
}

void ShardWriter::append(std::span<const int32_t> tokens) {
  require(file_.has_value(), "a closed shard takes no tokens");
  if (static_cast<int64_t>(tokens.size()) > kShardMaxTokens - tokens_) {
    fail(path_, fmt::format("a shard holds at most {} tokens", kShardMaxTokens),
         "write more and smaller shards");
  }
  for (const int32_t token : tokens)
    file_->append(&token, static_cast<size_t>(format_.token_bytes));  // low bytes first
  tokens_ += static_cast<int64_t>(tokens.size());
}

void ShardWriter::sync() {
  require(file_.has_value(), "a closed shard is on the disk");
  file_->sync();
}

void ShardWriter::close() {
  require(file_.has_value(), "a shard is closed once");
  Header header{};
  header[0] = format_.magic;
  header[1] = format_.version;
  header[2] = static_cast<int32_t>(tokens_);
  file_->write_front(header.data(), sizeof header);
  file_->sync();
  std::error_code error;
  std::filesystem::rename(file_->path(), path_, error);
  if (error)
    fail(path_, fmt::format("cannot rename a temporary file to it: {}", error.message()), "check the disk");
  file_.reset();
  sync_directory(path_.parent_path());
}

Shard::Shard(const std::filesystem::path& path, int64_t vocab) : path_(path), vocab_(vocab), file_(path) {
  require(vocab >= 1, "a vocabulary has at least one token");
  const auto size = static_cast<int64_t>(bytes().size());
  if (size == 0) fail(path, "the file is empty", kDamagedHint);
  if (size < kShardHeaderBytes) {
    fail(path,
         fmt::format("the file has {} bytes, less than the {} of a shard's header", size, kShardHeaderBytes),
         kDamagedHint);
  }
  Header header;
  std::memcpy(header.data(), bytes().data(), sizeof header);
  format_ = check_header(path, header, size);
  tokens_ = header[2];
}

void Shard::read(int64_t begin, int64_t count, int32_t* out) const {
  require(begin >= 0 && count >= 0 && begin + count <= tokens_, "tokens outside the shard");
  const uint32_t largest = format_.token_bytes == 2
                               ? copy_and_find_largest(tokens_of<uint16_t>(bytes(), begin, count), out)
                               : copy_and_find_largest(tokens_of<uint32_t>(bytes(), begin, count), out);
  if (largest >= vocab_) refuse_tokens(begin, count);
}

void Shard::verify() const {
  if (tokens_ == 0) return;
  const uint32_t largest = format_.token_bytes == 2 ? find_largest(tokens_of<uint16_t>(bytes(), 0, tokens_))
                                                    : find_largest(tokens_of<uint32_t>(bytes(), 0, tokens_));
  if (largest >= vocab_) refuse_tokens(0, tokens_);
}

void Shard::refuse_tokens(int64_t begin, int64_t count) const {
  for (int64_t i = begin; i < begin + count; i++) {
    const uint32_t token = format_.token_bytes == 2 ? tokens_of<uint16_t>(bytes(), i, 1)[0]
                                                    : tokens_of<uint32_t>(bytes(), i, 1)[0];
    if (token < vocab_) continue;
    fail(path_,
         fmt::format("token {} at index {} (byte offset {}) is outside the vocabulary of {}", token, i,
                     kShardHeaderBytes + format_.token_bytes * i, vocab_),
         "the shard was made with another tokenizer: prepare it anew with data.tokenizer, or raise "
         "model.vocab");
  }
  throw Error(ExitCode::data, fmt::format("{} changes while it is read", path_.string()),
              "let no other program write to token shards in use");
}

}  // namespace kiln::data
