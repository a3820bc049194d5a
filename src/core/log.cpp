#include "src/core/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace kiln {
namespace {

spdlog::logger& logger() {
  static const auto instance = [] {
    auto l = spdlog::stderr_color_mt("kiln");
    l->set_pattern("%^%l%$: %v");
    return l;
  }();
  return *instance;
}

}  // namespace

void log_info(const std::string& message) {
  logger().info(message);
}
void log_warning(const std::string& message) {
  logger().warn(message);
}
void log_error(const std::string& message) {
  logger().error(message);
}

}  // namespace kiln
