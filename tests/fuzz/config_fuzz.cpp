// A config of any bytes, with the files it extends and with overrides, is refused with a usage error, or resolves to a
// Config that survives being written and read again. No file is touched: an input holds all of them, separated by the
// byte 0x1f. The first part is the config run/x.json; a part that begins with "set " is an override; of any other the
// first line is its path and the rest its text.
#include "tests/fuzz/fuzz.h"

#include <filesystem>
#include <map>
#include <string_view>
#include <vector>

#include "src/config/load.h"
#include "src/config/positions.h"
#include "src/config/text.h"

namespace {

using namespace kiln;
namespace fs = std::filesystem;

constexpr char kSeparator = '\x1f';
constexpr const char* kName = "run/x.json";

struct Input {
  std::string config;
  std::map<std::string, std::string> others;
  std::vector<std::string> overrides;
};

Input split(std::string_view rest) {
  Input input;
  for (bool first = true;; first = false) {
    const size_t end = rest.find(kSeparator);
    const std::string_view part = rest.substr(0, end);
    if (first) {
      input.config = part;
    } else if (part.starts_with("set ")) {
      input.overrides.emplace_back(part.substr(4));
    } else if (const size_t line = part.find('\n'); line != std::string_view::npos) {
      input.others.emplace(part.substr(0, line), part.substr(line + 1));
    }
    if (end == std::string_view::npos) return input;
    rest.remove_prefix(end + 1);
  }
}

config::Files files_of(const Input& input) {
  return {.read =
              [&](const fs::path& path) {
                const auto file = input.others.find(path.string());
                if (file == input.others.end())
                  throw Error(ExitCode::usage, "there is no such file", "look again");
                return file->second;
              },
          .identity = [](const fs::path& path) { return path.lexically_normal().string(); }};
}

template <class Action>
void expect_usage_error_or_success(Action action) {
  try {
    action();
  } catch (const Error& error) {
    const bool speaks = !std::string(error.what()).empty() && !error.hint().empty();
    const bool is_text = config::is_utf8(error.what()) && config::is_utf8(error.hint());
    if (!speaks || !is_text || error.code() != ExitCode::usage) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Input input = split({reinterpret_cast<const char*>(data), size});
  const config::Files files = files_of(input), none = files_of({});
  expect_usage_error_or_success([&] {
    const config::Config resolved = config::parse(input.config, kName, input.overrides, files);
    const std::string text = config::to_json(resolved);
    try {
      if (config::parse(text, kName, {}, none) != resolved) std::abort();
    } catch (const Error&) {
      std::abort();  // what was written must be readable
    }
  });
  expect_usage_error_or_success([&] { config::parse_optimizer(input.config, kName, input.overrides); });
  try {
    const config::Node root = config::scan(input.config);
    for (const auto& [key, node] : root.children) {
      const std::string pointer = "/" + key;
      if (key.find_first_of("/~") == std::string::npos && root.find(pointer) != &node) std::abort();
    }
  } catch (const config::SyntaxError& error) {
    if (std::string(error.what()).empty() || error.hint().empty() || error.at().line < 1 ||
        error.at().column < 1) {
      std::abort();
    }
  }
  return 0;
}
