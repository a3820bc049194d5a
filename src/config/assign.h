// Puts JSON values into a Config, key by key, and remembers where each came from.
#pragma once

#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/config/config.h"
#include "src/config/schema.h"

namespace kiln::config {

// Throws Error(ExitCode::usage): "WHERE: MESSAGE".
[[noreturn]] void refuse(const std::string& where, const std::string& message, const std::string& hint);

class Assignment {
 public:
  // Checks type, range and choices; `where` ("configs/x.json:12:15", "--set optimizer.lr=3") stands in
  // messages.
  void assign(const Key& key, const nlohmann::json& value, const std::string& where);

  bool was_given(std::string_view name) const;

  // Where that one of the named keys was given which was given last; `otherwise` when all have their
  // defaults.
  std::string latest(std::initializer_list<std::string_view> names, const std::string& otherwise) const;

  Config config = defaults();

 private:
  std::vector<std::pair<std::string, std::string>> given_;  // key and where, in the order of assignment
};

}  // namespace kiln::config
