#include "src/train/versions.h"

#include <spdlog/version.h>

#include <nlohmann/json.hpp>

#include "data/pretokenizer.h"
#include "kernels/linear.h"
#include "src/device/cuda.h"
#include "src/device/device.h"

namespace kiln::train {
namespace {

// In the order in which people read them.
std::vector<std::pair<std::string, std::string>> facts() {
  const Device device = cpu_device();
  return {
      {"kiln", KILN_VERSION},
      {"compiler", "g++ " __VERSION__},
      {"backends", "cpu (f32)"},
      {"cuda", cuda_versions()},
      {"instruction set", std::string(name_of(device.isa)) + " (best of this processor)"},
      {"processor", device.name},
      {"libraries", kernels::library_versions()},
      {"PCRE2", data::pretokenizer_version()},
      {"nlohmann/json", fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR,
                                    NLOHMANN_JSON_VERSION_PATCH)},
      {"spdlog", fmt::format("{}.{}.{}", SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH)},
  };
}

}  // namespace

std::string versions_text() {
  std::string text;
  for (const auto& [key, value] : facts()) text += fmt::format("{:<16} {}\n", key, value);
  return text;
}

std::string versions_json() {
  nlohmann::ordered_json json;
  for (const auto& [key, value] : facts()) json[key] = value;
  return json.dump(2);
}

}  // namespace kiln::train
