#include "src/train/utf8.h"

#include <algorithm>

namespace kiln::train {

size_t complete_characters(std::string_view text) {
  constexpr size_t kLongest = 4;  // bytes
  for (size_t back = 1; back <= std::min(kLongest - 1, text.size()); back++) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;  // a later byte of a character
    const size_t length = byte >= 0xC2 && byte < 0xE0   ? 2
                          : byte >= 0xE0 && byte < 0xF0 ? 3
                          : byte >= 0xF0 && byte < 0xF5 ? 4
                                                        : 1;
    return back < length ? text.size() - back : text.size();
  }
  return text.size();
}

}  // namespace kiln::train
