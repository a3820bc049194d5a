// Every key of a config, once: validation, "did you mean", `kiln config --explain`, to_json() and the
// resolved config are all made from this table.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "src/config/config.h"

namespace kiln::config {

// Where a key's value lives in a Config.
using Slot = std::variant<int64_t*, uint64_t*, double*, std::string*>;

// In place of a default.
struct Required {
  bool may_be_empty = false;  // of text: "" is an answer
};
using Default = std::variant<Required, int64_t, double, std::string>;

// Of a number. Ends beyond 2^53 are not used, so that every integer in the range is exact as a double.
struct Range {
  double min = 0, max = 0;
  bool min_open = false, max_open = false;  // the end itself is not in the range
  bool contains(double x) const { return (min_open ? x > min : x >= min) && (max_open ? x < max : x <= max); }
};

struct Key {
  std::string name;  // "optimizer.lr"
  Slot (*slot)(Config&);
  Default fallback;
  std::string unit;
  Range range;                       // of numbers
  std::vector<std::string> choices;  // of text; empty: any
  std::string sentence;              // what it means; what 0 or empty stands for
  std::string aliases;               // what other programs call it, separated by spaces: for "did you mean"
  std::string why_not_more;          // why there are no other choices or larger values in this version
  std::string only_for;  // optimizers that read the key, separated by spaces; empty: all, or no matter

  std::string_view section() const { return std::string_view(name).substr(0, name.find('.')); }
  std::string_view leaf() const { return std::string_view(name).substr(name.find('.') + 1); }
  bool is_required() const { return std::holds_alternative<Required>(fallback); }
  bool must_not_be_empty() const;  // of text
  bool is_text() const;
  bool is_switch() const;  // choices "on" and "off", also written true and false
  bool is_integer() const;
};

inline constexpr const char* kPathUnit = "path";  // text that names files: no control characters in it
inline constexpr const char* kTextUnit = "text";

const std::vector<Key>& schema();
const std::vector<std::string>& sections();  // in the order of the schema

const Key* find_key(std::string_view name);  // null: there is none
std::vector<const Key*> keys_of(std::string_view section);

// All keys at their defaults; those without one are 0 or empty.
Config defaults();

// "0 <= b1 < 1", with `name` in the middle; for text the choices.
std::string range_text(const Key& key, std::string_view name);
std::string default_text(const Key& key);  // "0.0006", "cosine", "(empty)", "required"

// A number as messages and tables write it: no exponent for integers, the shortest exact form for others.
std::string number_text(double x);

}  // namespace kiln::config
