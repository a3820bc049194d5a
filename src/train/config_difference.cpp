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

constexpr std::array<std::string_view, 6> kFreeSections = {"validation", "sampling", "checkpoint", "metrics", "output", "device"};

bool is_free(const std::string& pointer) {
  for (std::string_view section : kFreeSections) {
    if (pointer.starts_with(fmt::format("/{}/", section))) return true;
  }
  return false;
}

std::string dotted(std::string pointer) {
  for (char& c : pointer) c = c == '/' ? '.' : c;
  return pointer.substr(1);
}

}  // namespace

std::vector<std::string> meaningful_differences(const std::string& old_json, const std::string& new_json,
                                                const std::vector<std::string>& also) {
  const json old_config = json::parse(old_json, nullptr, /*allow_exceptions=*/false);
  if (!old_config.is_object()) throw Error(ExitCode::data, "the config is damaged: it is no JSON object");
  const json before = old_config.flatten(), after = json::parse(new_json).flatten();
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
