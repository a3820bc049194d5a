// Text to tokens and back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kiln::data {

// Every sequence of bytes can be encoded, broken UTF-8 and zeros included, and decodes to itself. All calls
// may be made from several threads at once.
class Tokenizer {
 public:
  virtual ~Tokenizer();
  virtual int64_t vocab() const = 0;            // ids are below it; end-of-text is one of them
  virtual int32_t end_of_text() const = 0;      // stands in front of every document
  virtual std::string name() const = 0;         // "bytes", "bpe-8192"
  virtual std::string fingerprint() const = 0;  // 32 hex digits: equal where ids and rules are equal

  // Appends. Names of special tokens in the text, such as "<|endoftext|>", are text like any other.
  virtual void encode(std::string_view text, std::vector<int32_t>& tokens) const = 0;

  // Appends. End-of-text becomes "\n\n"; a number that is no token (a model's vocabulary may be larger)
  // becomes U+FFFD, so that decoding what a model says never fails.
  virtual void decode(std::span<const int32_t> tokens, std::string& text) const = 0;
};

inline constexpr const char* kBytes = "bytes";

// `spec` is "bytes" (one token a byte, end-of-text is 256) or a path: a tokenizer.json, a vocab.json with its
// merges.txt, a tiktoken rank file (*.tiktoken), or a folder with one of the first two. Throws
// Error(ExitCode::data) that names the file and what in it is broken or of another kind.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& spec);

}  // namespace kiln::data
