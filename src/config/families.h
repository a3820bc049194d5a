// The families of models as configs know them: names, and what keys mean that a config leaves open.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/shape.h"

namespace kiln::config {

struct Family {
  std::string_view name;
  const char* tied;               // model.tied = "auto"
  double norm_eps;                // model.norm_eps = 0
  bool rotary;                    // has a use for model.rope_theta, and for heads of even size alone
  int64_t (*ffn)(int64_t width);  // model.ffn = 0
};

inline constexpr Family kFamilies[] = {
    {"gpt2", "on", 1e-5, false, [](int64_t width) { return 4 * width; }},
    {"llama", "off", 1e-6, true, [](int64_t width) { return round_up(ceil_div(8 * width, 3), 256); }},
};

inline std::vector<std::string> family_names() {
  std::vector<std::string> names;
  for (const Family& family : kFamilies) names.emplace_back(family.name);
  return names;
}

// The first one for a name that is none: the schema refuses it.
constexpr const Family& family_named(std::string_view name) {
  for (const Family& family : kFamilies) {
    if (family.name == name) return family;
  }
  return kFamilies[0];
}

}  // namespace kiln::config
