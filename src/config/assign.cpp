#include "src/config/assign.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "src/config/text.h"
#include "src/core/error.h"

namespace kiln::config {
namespace {

using nlohmann::json;

std::string found(const json& value) {
  switch (value.type()) {
    case json::value_t::object:
      return "an object";
    case json::value_t::array:
      return "an array";
    case json::value_t::string:
      return "text " + in_quotes(value.get_ref<const std::string&>());
    case json::value_t::number_float:
      return number_text(value.get<double>());
    default:
      return value.dump();
  }
}

std::string about(const Key& key) {
  return key.is_required() ? key.sentence : fmt::format("{} Default: {}.", key.sentence, default_text(key));
}

bool holds_number(const std::string& text) {
  const json value = json::parse(text, nullptr, false);
  return value.is_number();
}

[[noreturn]] void wrong_type(const Key& key, const json& value, const char* expected,
                             const std::string& where) {
  std::string hint = about(key);
  if (!key.is_text()) hint += fmt::format(" Range: {}.", range_text(key, key.leaf()));
  if (value.is_string() && holds_number(value.get_ref<const std::string&>())) {
    hint = fmt::format("write the number without quotes: {}; {}", value.get_ref<const std::string&>(),
                       range_text(key, key.leaf()));
  }
  refuse(where, fmt::format("{}: expected {}, found {}", key.name, expected, found(value)), hint);
}

double checked_number(const Key& key, const json& value, const std::string& where) {
  const char* expected = key.is_integer() ? "an integer" : "a number";
  if (!value.is_number()) wrong_type(key, value, expected, where);
  const auto x = value.get<double>();
  if (key.is_integer() && std::floor(x) != x) wrong_type(key, value, expected, where);
  if (!key.range.contains(x)) {
    const bool is_above = x > key.range.min && !key.why_not_more.empty();
    refuse(where, fmt::format("{}: {} is outside of {}", key.name, found(value), range_text(key, key.leaf())),
           is_above ? key.why_not_more : about(key));
  }
  return x;
}

std::string checked_text(const Key& key, const json& value, const std::string& where) {
  if (key.is_switch() && (value == true || value == "true")) return "on";
  if (key.is_switch() && (value == false || value == "false")) return "off";
  if (!value.is_string()) {
    const bool is_choice = !key.choices.empty();
    wrong_type(key, value, is_choice ? fmt::format("text ({})", either(key.choices)).c_str() : "text", where);
  }
  const auto& text = value.get_ref<const std::string&>();
  if (!key.choices.empty()) {
    for (const std::string& choice : key.choices) {
      if (text == choice) return text;
    }
    std::string hint = key.why_not_more.empty() ? about(key) : key.why_not_more;
    if (const std::string other = nearest(text, key.choices); !other.empty()) {
      hint = fmt::format("did you mean {}?", in_quotes(other));
    }
    refuse(where, fmt::format("{}: expected {}, found {}", key.name, either(key.choices), in_quotes(text)),
           hint);
  }
  if (text.empty() && key.must_not_be_empty()) {
    refuse(where, fmt::format("{}: is empty", key.name), about(key));
  }
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (key.unit == kPathUnit && (byte < 0x20 || byte == 0x7f)) {
      refuse(where, fmt::format("{}: a path may not hold the control character 0x{:02x}", key.name, byte),
             "write \\\\ for a backslash");
    }
  }
  return text;
}

}  // namespace

void refuse(const std::string& where, const std::string& message, const std::string& hint) {
  throw Error(ExitCode::usage, fmt::format("{}: {}", where, message), hint);
}

void Assignment::assign(const Key& key, const json& value, const std::string& where) {
  std::visit(
      [&](auto* place) {
        using Place = std::remove_pointer_t<decltype(place)>;
        if constexpr (std::is_same_v<Place, std::string>) {
          *place = checked_text(key, value, where);
        } else {
          // Integer ranges end below 2^53, so a number that passed the check is exact as a double.
          *place = static_cast<Place>(checked_number(key, value, where));
        }
      },
      key.slot(config));
  given_.emplace_back(key.name, where);
}

bool Assignment::was_given(std::string_view name) const {
  for (const auto& [key, where] : given_) {
    if (key == name) return true;
  }
  return false;
}

std::string Assignment::latest(std::initializer_list<std::string_view> names,
                               const std::string& otherwise) const {
  for (size_t i = given_.size(); i-- > 0;) {
    for (const std::string_view name : names) {
      if (given_[i].first == name) return given_[i].second;
    }
  }
  return otherwise;
}

}  // namespace kiln::config
