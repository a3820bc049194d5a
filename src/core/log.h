// Messages for the person at the terminal (spdlog to stderr). Progress and results go to stdout by plain prints.
#pragma once

#include <string>

namespace kiln {

void log_info(const std::string& message);
void log_warning(const std::string& message);
void log_error(const std::string& message);

}  // namespace kiln
