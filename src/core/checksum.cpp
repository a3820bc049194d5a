#include "src/core/checksum.h"

#include <fmt/format.h>

#define XXH_STATIC_LINKING_ONLY  // for the state on the stack: no allocation while a run steps
#include <xxhash.h>

#include "src/core/file.h"

namespace kiln {

std::string file_checksum(const std::filesystem::path& path) {
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  read_pieces(path, [&](std::string_view piece) { XXH3_64bits_update(&state, piece.data(), piece.size()); });
  return fmt::format("{:016x}", XXH3_64bits_digest(&state));
}

std::string text_checksum(std::string_view text) {
  return fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
}

}  // namespace kiln
