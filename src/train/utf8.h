// Where a piece of UTF-8 may be cut.
#pragma once

#include <cstddef>
#include <string_view>

namespace kiln::train {

// How many of the first bytes can be shown now: all but the beginning of a character of which further bytes
// may follow. Bytes that no character can contain or begin with are not waited for.
size_t complete_characters(std::string_view text);

}  // namespace kiln::train
