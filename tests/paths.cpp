#include "tests/paths.h"

namespace kiln::paths {

std::string source() {
  return KILN_SOURCE;
}
std::string fixtures() {
  return KILN_SOURCE "/tests/fixtures";
}

}  // namespace kiln::paths
