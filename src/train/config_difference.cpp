#include "src/train/config_difference.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string_view>

#include "src/config/load.h"
#include "src/config/schema.h"
#include "src/core/error.h"

namespace kiln::train {
namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 6> kFreeSections = {"validation", "sampling", "checkpoint",
                                                           "metrics",    "output",   "device"};

// Not what is computed, but how, to the same bits.
constexpr std::string_view kFreeKey = "/train/recompute";

bool is_free(const std::string& pointer) {
  if (pointer == kFreeKey) return true;
  for (std::string_view section : kFreeSections) {
    if (pointer.starts_with(fmt::format("/{}/", section))) return true;
  }
  return false;
}

std::string dotted(std::string pointer) {
  for (char& c : pointer) c = c == '/' ? '.' : c;
  return pointer.substr(1);
}

// Every key with its resolved value, also those that the program which wrote the text did not know: they had the effect of
// their defaults. Text that this program cannot read as a config stays as it is.
json resolved(const std::string& text) {
  const json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) throw Error(ExitCode::data, "the config is damaged: it is no JSON object");
  try {
    return json::parse(config::to_json(config::parse(text, "config.json", {}, config::no_files()))).flatten();
  } catch (const Error&) {
    return object.flatten();
  }
}

}  // namespace

std::vector<std::string> meaningful_differences(const std::string& old_json, const std::string& new_json,
                                                const std::vector<std::string>& also) {
  const json before = resolved(old_json), after = json::parse(new_json).flatten();
  const auto may_differ = [&](const std::string& pointer) {
    return is_free(pointer) && std::find(also.begin(), also.end(), dotted(pointer)) == also.end();
  };
  // A key that the old program did not know had its default's effect.
  static const json usual = json::parse(config::to_json(config::defaults())).flatten();
  std::vector<std::string> differences;
  for (const auto& [key, value] : after.items()) {
    if (may_differ(key)) continue;
    const json old_value = before.contains(key) ? before[key] : usual.value(key, json("(absent)"));
    if (old_value != value)
      differences.push_back(fmt::format("{}: {} -> {}", dotted(key), old_value.dump(), value.dump()));
  }
  for (const auto& [key, value] : before.items()) {
    if (!may_differ(key) && !after.contains(key))
      differences.push_back(fmt::format("{}: {} -> (absent)", dotted(key), value.dump()));
  }
  return differences;
}

}  // namespace kiln::train
