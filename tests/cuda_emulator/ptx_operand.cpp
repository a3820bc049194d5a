#include "tests/cuda_emulator/ptx_operand.h"

#include <fmt/format.h>

#include <bit>
#include <cctype>
#include <charconv>
#include <cstdlib>

namespace kiln::emulator {

namespace {

constexpr std::string_view kBlanks = " \t\r\n";

bool is_digit(char c) {
  return std::isdigit(static_cast<unsigned char>(c)) != 0;
}

// base, base+8, base+-8, base-8: cuts the displacement off.
std::string_view take_displacement(std::string_view text, int64_t& offset) {
  const size_t sign = text.find_first_of("+-", 1);
  if (sign == std::string_view::npos) return text;
  std::string_view number = trim(text.substr(sign + 1));
  bool negative = text[sign] == '-';
  if (!number.empty() && number.front() == '-') {
    negative = !negative;
    number = trim(number.substr(1));
  }
  const int64_t value = static_cast<int64_t>(parse_integer(number));
  offset = negative ? -value : value;
  return trim(text.substr(0, sign));
}

}  // namespace

std::string_view trim(std::string_view text) {
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

std::vector<std::string_view> split_words(std::string_view text) {
  std::vector<std::string_view> words;
  for (size_t at = 0; (at = text.find_first_not_of(" \t\r\n,", at)) != std::string_view::npos;) {
    const size_t end = std::min(text.find_first_of(" \t\r\n,", at), text.size());
    words.push_back(text.substr(at, end - at));
    at = end;
  }
  return words;
}

std::vector<std::string_view> split_list(std::string_view text) {
  std::vector<std::string_view> parts;
  text = trim(text);
  if (text.empty()) return parts;
  int depth = 0;
  size_t start = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '{' || c == '[' || c == '(') ++depth;
    if (c == '}' || c == ']' || c == ')') --depth;
    if (c == ',' && depth == 0) {
      parts.push_back(trim(text.substr(start, i - start)));
      start = i + 1;
    }
  }
  parts.push_back(trim(text.substr(start)));
  return parts;
}

uint64_t parse_integer(std::string_view text) {
  const std::string_view whole = text;
  if (!text.empty() && (text.back() == 'U' || text.back() == 'u')) text.remove_suffix(1);
  int base = 10;
  if (text.size() > 1 && text[0] == '0') {
    const char kind = text[1];
    base = kind == 'x' || kind == 'X' ? 16 : kind == 'b' || kind == 'B' ? 2 : 8;
    text.remove_prefix(base == 8 ? 1 : 2);
  }
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw PtxError(fmt::format("'{}' is no integer", whole));
  }
  return value;
}

Operand parse_immediate(std::string_view text) {
  Operand made;
  made.kind = Operand::Kind::kImmediate;
  const bool negative = text.front() == '-';
  if (negative) text = trim(text.substr(1));
  const char kind = text.size() > 2 && text[0] == '0' ? text[1] : ' ';
  const bool hex = kind == 'x' || kind == 'X';
  if (kind == 'f' || kind == 'F' || kind == 'd' || kind == 'D') {
    const bool single = kind == 'f' || kind == 'F';
    made.literal = single ? Operand::Literal::kFloat32 : Operand::Literal::kFloat64;
    made.bits = std::strtoull(std::string(text.substr(2)).c_str(), nullptr, 16);
    if (negative) made.bits ^= single ? uint64_t{1} << 31 : uint64_t{1} << 63;
  } else if (!hex && text.find_first_of(".eE") != std::string_view::npos) {
    made.literal = Operand::Literal::kFloat64;
    const double value = std::strtod(std::string(text).c_str(), nullptr);
    made.bits = std::bit_cast<uint64_t>(negative ? -value : value);
  } else {
    const uint64_t value = parse_integer(text);
    made.bits = negative ? ~value + 1 : value;
  }
  return made;
}

Operand parse_operand(std::string_view text, const std::function<int(std::string_view)>& find_register) {
  Operand made;
  text = trim(text);
  if (text.empty() || text == "_") return made;
  if (text.front() == '{') {
    made.kind = Operand::Kind::kVector;
    for (const std::string_view part : split_list(text.substr(1, text.size() - 2))) {
      made.parts.push_back(parse_operand(part, find_register));
    }
    return made;
  }
  if (text.front() == '[') {
    made.kind = Operand::Kind::kAddress;
    const std::string_view base = take_displacement(trim(text.substr(1, text.size() - 2)), made.offset);
    made.reg = find_register(base);
    if (made.reg < 0 && is_digit(base.front())) {
      made.bits = parse_integer(base);
    } else if (made.reg < 0) {
      made.name = base;
    }
    return made;
  }
  if (text.front() == '!') {
    made = parse_operand(text.substr(1), find_register);
    made.negated = !made.negated;
    return made;
  }
  if (is_digit(text.front()) || text.front() == '-') return parse_immediate(text);
  if (text == "WARP_SZ") {
    made.kind = Operand::Kind::kImmediate;
    made.bits = 32;
    return made;
  }
  if (const size_t bar = text.find('|'); bar != std::string_view::npos) {
    made.kind = Operand::Kind::kPair;
    made.parts = {parse_operand(text.substr(0, bar), find_register),
                  parse_operand(text.substr(bar + 1), find_register)};
    return made;
  }
  made.reg = find_register(text);
  if (made.reg >= 0) {
    made.kind = Operand::Kind::kRegister;
  } else if (text.front() == '%') {
    made.kind = Operand::Kind::kSpecial;
    made.name = text;
  } else {
    made.kind = Operand::Kind::kSymbol;
    made.name = take_displacement(text, made.offset);
  }
  return made;
}

}  // namespace kiln::emulator
