#include "data/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <cstdint>
#include <cstring>

#include "src/core/error.h"

namespace kiln::data {
namespace {

// GPT-2's pattern (openai/gpt-2, src/encoder.py), with one thing said explicitly: \s is White_Space there, as
// in the libraries of tiktoken and Hugging Face, while PCRE2's \s also takes U+180E.
constexpr const char* kPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+)";

unsigned char byte_at(std::string_view text, size_t i) {
  return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
}

// Bytes of the well-formed character of two or more bytes at the front of `text`; 0: there is none.
size_t long_character(std::string_view text) {
  const auto lead = byte_at(text, 0), second = byte_at(text, 1);
  const auto continues = [&](size_t i) { return (byte_at(text, i) & 0xC0) == 0x80; };
  if (lead >= 0xC2 && lead <= 0xDF) return continues(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    if (lead == 0xE0 && second < 0xA0) return 0;  // too long for what it says
    if (lead == 0xED && second > 0x9F) return 0;  // a surrogate
    return continues(1) && continues(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    if (lead == 0xF0 && second < 0x90) return 0;
    if (lead == 0xF4 && second > 0x8F) return 0;  // past U+10FFFF
    return continues(1) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

pcre2_code* code_of(void* code) {
  return static_cast<pcre2_code*>(code);
}
pcre2_match_data* match_of(void* match) {
  return static_cast<pcre2_match_data*>(match);
}

}  // namespace

size_t valid_utf8_bytes(std::string_view text) {
  size_t i = 0;
  for (;;) {
    while (text.size() - i >= 8) {  // eight bytes of ASCII at a time
      uint64_t word;
      std::memcpy(&word, text.data() + i, sizeof word);
      if (word & 0x8080808080808080u) break;
      i += 8;
    }
    while (i < text.size() && byte_at(text, i) < 0x80) i++;
    if (i == text.size()) return i;
    const size_t bytes = long_character(text.substr(i));
    if (bytes == 0) return i;
    i += bytes;
  }
}

std::string pretokenizer_version() {
  std::array<char, 64> library{}, unicode{};
  pcre2_config(PCRE2_CONFIG_VERSION, library.data());
  pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, unicode.data());
  const std::string_view version = library.data();  // "10.42 2022-12-11"
  return fmt::format("{}, Unicode {}", version.substr(0, version.find(' ')), unicode.data());
}

Pretokenizer::Pretokenizer() {
  int code = 0;
  PCRE2_SIZE offset = 0;
  code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(kPattern), PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
                        &code, &offset, nullptr);
  if (!code_) {
    std::array<PCRE2_UCHAR, 256> reason{};
    pcre2_get_error_message(code, reason.data(), reason.size());
    throw Error(
        ExitCode::failure,
        fmt::format("PCRE2 refuses GPT-2's pattern: {}", reinterpret_cast<const char*>(reason.data())),
        "Kiln needs PCRE2 10.40 or newer with Unicode");
  }
  // Where no code may be generated (hardened systems) this fails, and the interpreter does the same, slower.
  pcre2_jit_compile(code_of(code_), PCRE2_JIT_COMPLETE);
}

Pretokenizer::~Pretokenizer() {
  pcre2_code_free(code_of(code_));
}

Pretokens::Pretokens(const Pretokenizer& pretokenizer)
    : pretokenizer_(pretokenizer), match_(pcre2_match_data_create(1, nullptr)) {
  if (!match_) throw std::bad_alloc();
  span_ = pcre2_get_ovector_pointer(match_of(match_));
}

Pretokens::~Pretokens() {
  pcre2_match_data_free(match_of(match_));
}

void Pretokens::start(std::string_view text) {
  rest_ = text;
  run_ = text.substr(0, valid_utf8_bytes(text));
  at_ = 0;
}

bool Pretokens::next(std::string_view& pretoken) {
  if (at_ == run_.size()) {
    rest_.remove_prefix(run_.size());
    run_ = {};
    at_ = 0;
    if (rest_.empty()) return false;
    run_ = rest_.substr(0, valid_utf8_bytes(rest_));
    if (run_.empty()) {
      pretoken = rest_.substr(0, 1);
      rest_.remove_prefix(1);
      return true;
    }
  }
  const int found = pcre2_match(code_of(pretokenizer_.code_), reinterpret_cast<PCRE2_SPTR>(run_.data()),
                                run_.size(), at_, PCRE2_NO_UTF_CHECK, match_of(match_), nullptr);
  require(found == 1 && span_[0] == at_ && span_[1] > at_, "the pre-tokenisation pattern matches everywhere");
  pretoken = run_.substr(at_, span_[1] - at_);
  at_ = span_[1];
  return true;
}

}  // namespace kiln::data
