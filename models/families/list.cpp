#include "models/families/list.h"

#include "src/core/error.h"

namespace kiln::families {

std::vector<std::string> family_names() {
  std::vector<std::string> names;
  for (const Family& family : families()) names.emplace_back(family.name);
  return names;
}

const Family& family_named(std::string_view name) {
  for (const Family& family : families()) {
    if (family.name == name) return family;
  }
  throw Error(ExitCode::usage, fmt::format("there is no model family \"{}\"", name),
              "kiln config --explain model.family lists them");
}

}  // namespace kiln::families
