// Where things stand in a JSON text. Parse trees lose this, and keep only the last of two equal keys; so this
// scanner reads the text first: it checks the grammar (RFC 8259) and the UTF-8, refuses what a config should
// not contain, and remembers the line and column of every key and value.
#pragma once

#include <map>
#include <stdexcept>
#include <string>
#include <string_view>

namespace kiln::config {

// Counted from 1. Columns count characters (UTF-8 code points); a tab is one character.
struct Position {
  int line = 1, column = 1;
  bool operator==(const Position&) const = default;
};

// Mirrors the objects of the text; arrays are leaves.
struct Node {
  Position key, value;  // the root has no key
  std::map<std::string, Node, std::less<>> children;

  // The node that a JSON pointer ("/optimizer/lr", RFC 6901) names, or null.
  const Node* find(std::string_view pointer) const;
};

class SyntaxError : public std::runtime_error {
 public:
  SyntaxError(Position at, const std::string& message, std::string hint)
      : std::runtime_error(message), at_(at), hint_(std::move(hint)) {}
  Position at() const { return at_; }
  const std::string& hint() const { return hint_; }

 private:
  Position at_;
  std::string hint_;
};

inline constexpr int kMaxDepth = 64;  // of nested objects and arrays

// Throws SyntaxError for what is not JSON, for a key given twice in one object, for nesting deeper than
// kMaxDepth, and for a number outside of what a 64-bit float holds. A UTF-8 byte order mark is skipped.
Node scan(std::string_view text);

}  // namespace kiln::config
