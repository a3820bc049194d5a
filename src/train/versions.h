// What this kiln is made of, for `kiln --version` and for the run folder.
#pragma once

#include <string>

namespace kiln::train {

std::string versions_text();  // several lines, for people
std::string versions_json();

}  // namespace kiln::train
