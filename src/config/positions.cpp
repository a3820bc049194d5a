#include "src/config/positions.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdint>
#include <limits>
#include <system_error>
#include <utility>

#include "src/config/text.h"

namespace kiln::config {
namespace {

constexpr int kEnd = -1;

bool is_digit(int c) {
  return c >= '0' && c <= '9';
}
bool is_word(int c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c);
}

std::string describe(Position p) {
  return fmt::format("line {}, column {}", p.line, p.column);
}

void append_utf8(std::string& out, uint32_t code) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((code >> shift) & 0x3f)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xc0 | (code >> 6));
    tail(0);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xe0 | (code >> 12));
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xf0 | (code >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {
    if (text_.starts_with("\xff\xfe") || text_.starts_with("\xfe\xff")) {
      fail(here_, "this is UTF-16, not UTF-8", "save the file as UTF-8");
    }
    if (text_.starts_with("\xef\xbb\xbf")) at_ = 3;
  }

  Node document() {
    skip_space();
    if (peek() == kEnd) fail(here_, "there is nothing here", "a config starts with { and ends with }");
    Node root = value(0);
    skip_space();
    if (peek() != kEnd) {
      fail(here_, fmt::format("expected nothing more, found {}", found()), "a config is one object: { ... }");
    }
    return root;
  }

 private:
  [[noreturn]] static void fail(Position at, const std::string& message, const std::string& hint) {
    throw SyntaxError(at, message, hint);
  }

  int peek() const { return at_ < text_.size() ? static_cast<unsigned char>(text_[at_]) : kEnd; }

  void advance() {
    const auto c = static_cast<unsigned char>(text_[at_++]);
    if (c == '\n') {
      here_.line++;
      here_.column = 1;
    } else if ((c & 0xc0) != 0x80) {
      here_.column++;
    }
  }

  void skip_space() {
    for (;;) {
      const int c = peek();
      if (c == '/' || c == '#') fail(here_, "JSON has no comments", "put remarks under \"notes\"");
      if (c != ' ' && c != '\t' && c != '\n' && c != '\r') return;
      advance();
    }
  }

  std::string_view word() const {
    size_t end = at_;
    while (end < text_.size() && is_word(static_cast<unsigned char>(text_[end])) && end - at_ < 20) end++;
    return text_.substr(at_, end - at_);
  }

  // What stands here, for messages.
  std::string found() const {
    const int c = peek();
    if (is_word(c)) return std::string(word());
    return found_character();
  }

  std::string found_character() const {
    const int c = peek();
    if (c == kEnd) return "the end of the text";
    if (c == '\'') return "a single quote";
    const size_t length = utf8_length(text_.substr(at_));
    if (length == 0 || c < 0x20 || c == 0x7f) return fmt::format("the byte 0x{:02x}", c);
    return fmt::format("'{}'", text_.substr(at_, length));
  }

  Node value(int depth) {
    Node node;
    node.value = here_;
    const int c = peek();
    if (c == '{' || c == '[') {
      if (depth == kMaxDepth) {
        fail(here_, fmt::format("nested deeper than {} levels", kMaxDepth),
             "a config has sections with keys in them");
      }
      if (c == '{') {
        object(node, depth);
      } else {
        array(depth);
      }
    } else if (c == '"') {
      string();
    } else if (c == '-' || is_digit(c)) {
      number();
    } else {
      literal();
    }
    return node;
  }

  void object(Node& node, int depth) {
    const Position open = here_;
    advance();
    skip_space();
    if (peek() == '}') return advance();
    for (;;) {
      expect_key(open);
      Position key_at = here_;
      std::string key = string();
      skip_space();
      if (peek() != ':') {
        fail(here_, fmt::format("expected ':' after the key {}, found {}", in_quotes(key), found()),
             "write \"key\": value");
      }
      advance();
      skip_space();
      Node child = value(depth + 1);
      child.key = key_at;
      const auto [twin, is_new] = node.children.try_emplace(key, std::move(child));
      if (!is_new) {
        fail(
            key_at,
            fmt::format("the key {} is given twice: first at {}", in_quotes(key), describe(twin->second.key)),
            "keep one of the two");
      }
      if (!another('}', open)) return;
    }
  }

  void array(int depth) {
    const Position open = here_;
    advance();
    skip_space();
    if (peek() == ']') return advance();
    do {
      value(depth + 1);
    } while (another(']', open));
  }

  // After an entry: true when another one follows.
  bool another(char close, Position open) {
    skip_space();
    if (peek() == close) {
      advance();
      return false;
    }
    if (peek() != ',') {
      std::string hint = "put a comma between entries";
      if (peek() == kEnd) hint = unclosed(close, open);
      if (peek() == '}' || peek() == ']') hint = fmt::format("brackets cross: {}", unclosed(close, open));
      fail(here_, fmt::format("expected ',' or '{}', found {}", close, found()), hint);
    }
    const Position comma = here_;
    advance();
    skip_space();
    if (peek() == close) {
      fail(comma, fmt::format("expected another entry after ',', found '{}'", close),
           "remove the comma after the last entry");
    }
    return true;
  }

  static std::string unclosed(char close, Position open) {
    return fmt::format("the '{}' of {} is not closed", close == '}' ? '{' : '[', describe(open));
  }

  void expect_key(Position open) const {
    if (peek() == '"') return;
    std::string hint = "a key stands in double quotes: \"key\": value";
    if (peek() == kEnd) hint = unclosed('}', open);
    if (peek() == ',') hint = "remove the second comma";
    fail(here_, fmt::format("expected a key in double quotes, found {}", found()), hint);
  }

  void literal() {
    const std::string_view name = word();
    if (name == "true" || name == "false" || name == "null") {
      for (size_t i = 0; i < name.size(); i++) advance();
      return;
    }
    const int c = peek();
    std::string hint =
        "a value is a number, a text in double quotes, true, false, null, an object or an array";
    if (c == '\'' || c == '`') hint = "text stands in double quotes";
    if (c == '+' || c == '.') hint = "a number starts with a digit or with '-': 0.5";
    if (c == ',' || c == '}' || c == ']') hint = "a value is missing before it";
    if (name == "NaN" || name == "nan" || name == "Infinity" || name == "inf")
      hint = "JSON has no NaN and no infinity";
    if (name == "True" || name == "False" || name == "None") hint = "JSON writes true, false and null";
    fail(here_, fmt::format("expected a value, found {}", found()), hint);
  }

  void digits(const char* where) {
    if (!is_digit(peek())) {
      fail(here_, fmt::format("expected a digit {}, found {}", where, found()),
           "numbers look like -12, 0.5 or 6e-4");
    }
    while (is_digit(peek())) advance();
  }

  void number() {
    const Position start = here_;
    const size_t begin = at_;
    if (peek() == '-') advance();
    if (peek() == '0') {
      advance();
      if (is_digit(peek())) fail(start, "a number may not start with 0", "remove the leading zeros");
    } else {
      digits("after '-'");
    }
    if (peek() == '.') {
      advance();
      digits("after the point");
    }
    if (peek() == 'e' || peek() == 'E') {
      advance();
      if (peek() == '+' || peek() == '-') advance();
      digits("in the exponent");
    }
    if (is_word(peek()) || peek() == '.') {
      size_t end = at_;
      while (end < text_.size() && (is_word(text_[end]) || text_[end] == '.')) end++;
      fail(start, fmt::format("this is not a number: {}", in_quotes(text_.substr(begin, end - begin))),
           "numbers look like -12, 0.5 or 6e-4, without separators and units");
    }
    double parsed = 0;
    if (std::from_chars(text_.data() + begin, text_.data() + at_, parsed).ec != std::errc()) {
      fail(start, "this number does not fit a 64-bit float",
           fmt::format("the largest is {:.2g}, the smallest {:.2g}", std::numeric_limits<double>::max(),
                       std::numeric_limits<double>::min()));
    }
  }

  uint32_t hex4(Position escape) {
    uint32_t code = 0;
    for (int i = 0; i < 4; i++) {
      const int c = peek();
      const bool is_lower = c >= 'a' && c <= 'f', is_upper = c >= 'A' && c <= 'F';
      if (!is_digit(c) && !is_lower && !is_upper) {
        fail(escape, "expected four hexadecimal digits after \\u", "for example \\u00e9");
      }
      code = code * 16 + static_cast<uint32_t>(is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
      advance();
    }
    return code;
  }

  void escape(std::string& out) {
    const Position start = here_;
    advance();
    const int c = peek();
    static constexpr std::string_view kShort = "\"\\/bfnrt", kMeaning = "\"\\/\b\f\n\r\t";
    const size_t i = c == kEnd ? std::string_view::npos : kShort.find(static_cast<char>(c));
    if (i == std::string_view::npos && c != 'u') {
      fail(start, fmt::format("expected one of \" \\ / b f n r t u after '\\', found {}", found_character()),
           "write \\\\ for a backslash");
    }
    advance();
    if (c != 'u') {
      out += kMeaning[i];
      return;
    }
    uint32_t code = hex4(start);
    if (code >= 0xd800 && code < 0xdc00 && text_.substr(at_).starts_with("\\u")) {
      advance();
      advance();
      const uint32_t low = hex4(start);
      code = low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00) : code;
    }
    if (code >= 0xd800 && code < 0xe000) {
      fail(start, fmt::format("\\u{:04x} is half of a surrogate pair", code),
           "write the character itself, in UTF-8, or both halves");
    }
    append_utf8(out, code);
  }

  std::string string() {
    const Position open = here_;
    advance();
    std::string out;
    for (;;) {
      const int c = peek();
      if (c == kEnd || c == '\n' || c == '\r') {
        fail(open, "this text is not closed before the end of its line",
             "end it with \"; a line break in it is \\n");
      }
      if (c == '"') break;
      if (c == '\\') {
        escape(out);
        continue;
      }
      if (c < 0x20) {
        fail(here_, fmt::format("text may not hold the control character 0x{:02x}", c),
             c == '\t' ? "write \\t for a tab" : fmt::format("write \\u{:04x}", c));
      }
      const size_t length = utf8_length(text_.substr(at_));
      if (length == 0) {
        fail(here_, fmt::format("the byte 0x{:02x} is not UTF-8", c), "save the file as UTF-8");
      }
      out += text_.substr(at_, length);
      for (size_t i = 0; i < length; i++) advance();
    }
    advance();
    return out;
  }

  std::string_view text_;
  size_t at_ = 0;
  Position here_;
};

}  // namespace

const Node* Node::find(std::string_view pointer) const {
  const Node* node = this;
  while (!pointer.empty()) {
    if (pointer.front() != '/') return nullptr;
    pointer.remove_prefix(1);
    std::string name;
    while (!pointer.empty() && pointer.front() != '/') {
      char c = pointer.front();
      pointer.remove_prefix(1);
      if (c == '~' && !pointer.empty()) {  // ~0 stands for ~, ~1 for /
        c = pointer.front() == '1' ? '/' : '~';
        pointer.remove_prefix(1);
      }
      name += c;
    }
    const auto child = node->children.find(name);
    if (child == node->children.end()) return nullptr;
    node = &child->second;
  }
  return node;
}

Node scan(std::string_view text) {
  return Scanner(text).document();
}

}  // namespace kiln::config
