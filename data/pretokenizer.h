// Cuts text into pre-tokens, the pieces that no token of a byte-level BPE crosses, by GPT-2's pattern.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace kiln::data {

// The number of bytes at the beginning of `text` that are well-formed UTF-8 (Unicode 15, table 3-7).
size_t valid_utf8_bytes(std::string_view text);

// "10.42, Unicode 14.0.0": of the library that runs the pattern, whose tables of letters and digits decide.
std::string pretokenizer_version();

// The compiled pattern; shared by threads.
class Pretokenizer {
 public:
  Pretokenizer();
  ~Pretokenizer();
  Pretokenizer(const Pretokenizer&) = delete;
  Pretokenizer& operator=(const Pretokenizer&) = delete;

 private:
  friend class Pretokens;
  void* code_;
};

// Walks through the pre-tokens of a text; one per thread. Together they are the text, in order. Every byte
// that is no part of a well-formed character is a pre-token by itself, and the text on either side of it is
// matched as if it were alone.
class Pretokens {
 public:
  explicit Pretokens(const Pretokenizer& pretokenizer);
  ~Pretokens();
  Pretokens(const Pretokens&) = delete;
  Pretokens& operator=(const Pretokens&) = delete;

  void start(std::string_view text);  // must stay valid during the walk
  bool next(std::string_view& pretoken);

 private:
  const Pretokenizer& pretokenizer_;
  void* match_;
  const size_t* span_;  // of the last match: begin and end
  std::string_view rest_;
  std::string_view run_;  // well-formed, at the front of rest_ ...
  size_t at_ = 0;         // ... and done up to here
};

}  // namespace kiln::data
