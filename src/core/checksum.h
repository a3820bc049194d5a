// Checksums that find what a disk, a copy or a crash did to a file: XXH3 with 64 bits (xxhash.com), written
// as 16 hexadecimal digits. Not a defence against anybody who wants to deceive.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace kiln {

// Of a file's content, read in small pieces. Throws Error(ExitCode::data) with the path and the system's
// reason.
std::string file_checksum(const std::filesystem::path& path);

std::string text_checksum(std::string_view text);

}  // namespace kiln
