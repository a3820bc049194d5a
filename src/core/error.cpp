#include "src/core/error.h"

#include <utility>

namespace kiln {

Error::Error(ExitCode code, const std::string& message, std::string hint)
    : std::runtime_error(message), code_(code), hint_(std::move(hint)) {}

Error::~Error() = default;

void broken_promise(const char* message) {
  throw Error(ExitCode::failure, message, "this is a bug in kiln: please report it");
}

}  // namespace kiln
