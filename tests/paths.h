// Where the tests find the source tree. In functions of one small library, so that no other compile command holds an
// absolute path: compiler caches then serve every checkout.
#pragma once

#include <string>

namespace kiln::paths {

std::string source();    // the root of the repository
std::string fixtures();  // tests/fixtures

}  // namespace kiln::paths
