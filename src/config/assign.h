// Puts JSON values into a Config, key by key, and remembers where each came from.
#pragma once

#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
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
  // Where each of the others was given: "; train.steps stands at configs/x.json:3:5". Empty: nowhere.
  std::string others(std::initializer_list<std::string_view> names) const;

  // What is assigned from here on comes from another file, or from the command line.
  void begin_source() { source_++; }
  // The optimizer that a key was chosen for: the one that the same file (or the command line) ends with, which a
  // later one may have changed. Empty: the key was not given, or no optimizer was named by then.
  std::string chosen_for(std::string_view name) const;

  Config config = defaults();

 private:
  struct Given {
    std::string key, where;
    int source;
    std::string optimizer;  // named by then; empty: none
  };
  const Given* last(std::string_view name) const;
  std::vector<Given> given_;  // in the order of assignment
  int source_ = 0;
};

}  // namespace kiln::config
