// The families of models: what the headers of this folder define, in the order of their names.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/families/family.h"

namespace kiln::families {

std::span<const Family> families();

std::vector<std::string> family_names();

// Throws Error(ExitCode::usage) for a name that is none.
const Family& family_named(std::string_view name);

}  // namespace kiln::families
