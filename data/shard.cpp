#include "data/shard.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "src/core/error.h"

namespace kiln::data {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are little-endian and read in place");

using Header = std::array<int32_t, kShardHeaderBytes / sizeof(int32_t)>;

constexpr const char* kPrepareHint = "write shards with `kiln data prepare`";
constexpr const char* kDamagedHint = "the file is damaged or unfinished: copy it again or prepare it anew";

[[noreturn]] void fail_writing(const char* what, const std::filesystem::path& path) {
  const int code = errno;
  throw Error(
      ExitCode::data, fmt::format("cannot {} {}: {}", what, path.string(), std::strerror(code)),
      code == ENOSPC ? "free some space on that disk" : "check that the folder exists and may be written to");
}

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& what, std::string hint) {
  throw Error(ExitCode::data, fmt::format("{}: {}", path.string(), what), std::move(hint));
}

void write_all(int descriptor, const void* data, size_t bytes, const std::filesystem::path& path) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor, at, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_writing("write", path);
    at += written;
    bytes -= static_cast<size_t>(written);
  }
}

// What a file with this number at its start is, if it is something that people mistake for a token shard.
std::string describe_magic(int32_t magic) {
  switch (magic) {
    case 20240801:
      return "a LLaMA-3 token shard (uint32 tokens), which this version does not read";
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
  if (__builtin_bswap32(static_cast<uint32_t>(magic)) == kShardMagic)
    return "a token shard in big-endian byte order";
  return "not a token shard";
}

void check_header(const std::filesystem::path& path, const Header& header, int64_t file_bytes) {
  const int32_t magic = header[0], version = header[1], tokens = header[2];
  if (magic != kShardMagic) {
    fail(path,
         fmt::format("{}: it starts with {}, not {} (byte offset 0)", describe_magic(magic), magic,
                     kShardMagic),
         kPrepareHint);
  }
  if (version != kShardVersion) {
    fail(path,
         fmt::format("shard version {} at byte offset 4; this program reads version {}", version,
                     kShardVersion),
         kPrepareHint);
  }
  if (tokens < 0) fail(path, fmt::format("a count of {} tokens at byte offset 8", tokens), kDamagedHint);
  const int64_t expected = kShardHeaderBytes + int64_t{tokens} * 2;
  if (file_bytes != expected) {
    fail(path,
         fmt::format("the header counts {} tokens, which makes {} bytes, but the file has {}: {} bytes {}",
                     tokens, expected, file_bytes, std::abs(file_bytes - expected),
                     file_bytes < expected ? "are missing" : "too many"),
         kDamagedHint);
  }
}

// A plain maximum over blocks of constant length, which the compiler vectorises; where the offender stands is
// looked for only when there is one.
uint16_t largest(std::span<const uint16_t> tokens) {
  constexpr size_t kBlock = 1024;
  uint16_t result = 0;
  for (; tokens.size() >= kBlock; tokens = tokens.subspan(kBlock)) {
    for (size_t i = 0; i < kBlock; i++) result = std::max(result, tokens[i]);
  }
  for (const uint16_t token : tokens) result = std::max(result, token);
  return result;
}

void check_tokens(const std::filesystem::path& path, std::span<const uint16_t> tokens, int64_t vocab) {
  if (vocab > std::numeric_limits<uint16_t>::max() || largest(tokens) < vocab) return;
  const auto offender =
      std::find_if(tokens.begin(), tokens.end(), [vocab](uint16_t t) { return t >= vocab; });
  const int64_t index = offender - tokens.begin();
  fail(
      path,
      fmt::format("token {} at index {} (byte offset {}) is outside the vocabulary of {}", *offender, index,
                  kShardHeaderBytes + 2 * index, vocab),
      "the shard was made with another tokenizer: prepare it anew with data.tokenizer, or raise model.vocab");
}

}  // namespace

ShardWriter::ShardWriter(std::filesystem::path path)
    : path_(std::move(path)), temporary_(path_.string() + ".tmp") {
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail_writing("create", temporary_);
  try {
    const Header empty{};
    write_all(descriptor_, empty.data(), sizeof empty, temporary_);
  } catch (...) {
    ::close(descriptor_);
    ::unlink(temporary_.c_str());
    throw;
  }
}

ShardWriter::~ShardWriter() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void ShardWriter::append(std::span<const uint16_t> tokens) {
  require(descriptor_ >= 0, "a closed shard takes no tokens");
  if (static_cast<int64_t>(tokens.size()) > kShardMaxTokens - tokens_) {
    fail(path_, fmt::format("a shard holds at most {} tokens", kShardMaxTokens),
         "write more and smaller shards");
  }
  write_all(descriptor_, tokens.data(), tokens.size_bytes(), temporary_);
  tokens_ += static_cast<int64_t>(tokens.size());
}

void ShardWriter::close() {
  require(descriptor_ >= 0, "a shard is closed once");
  Header header{};
  header[0] = kShardMagic;
  header[1] = kShardVersion;
  header[2] = static_cast<int32_t>(tokens_);
  if (::lseek(descriptor_, 0, SEEK_SET) != 0) fail_writing("seek in", temporary_);
  write_all(descriptor_, header.data(), sizeof header, temporary_);
  if (::fsync(descriptor_) != 0) fail_writing("sync", temporary_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_writing("rename a temporary file to", path_);
  ::close(std::exchange(descriptor_, -1));
  sync_directory(path_.parent_path());
}

Shard::Shard(const std::filesystem::path& path, int64_t vocab) : file_(path) {
  require(vocab >= 1, "a vocabulary has at least one token");
  const auto bytes = file_.bytes();
  const int64_t size = static_cast<int64_t>(bytes.size());
  if (size == 0) fail(path, "the file is empty", kDamagedHint);
  if (size < kShardHeaderBytes) {
    fail(path,
         fmt::format("the file has {} bytes, less than the {} of a shard's header", size, kShardHeaderBytes),
         kDamagedHint);
  }
  Header header;
  std::memcpy(header.data(), bytes.data(), sizeof header);
  check_header(path, header, size);
  tokens_ = {reinterpret_cast<const uint16_t*>(bytes.data() + kShardHeaderBytes),
             static_cast<size_t>(header[2])};
  check_tokens(path, tokens_, vocab);
}

}  // namespace kiln::data
