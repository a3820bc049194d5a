// Words, lists and operands of PTX statements.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "tests/cuda_emulator/ptx_text.h"

namespace kiln::emulator {

std::string_view trim(std::string_view text);
std::vector<std::string_view> split_words(std::string_view text);  // at blanks and commas
std::vector<std::string_view> split_list(
    std::string_view text);                      // at commas outside of brackets, each trimmed
uint64_t parse_integer(std::string_view text);   // decimal, 0x, 0b, octal; throws PtxError
Operand parse_immediate(std::string_view text);  // 42, -1, 0f3F800000, 0d..., 1.5

// `find_register` gives the index of a register by its name, or -1.
Operand parse_operand(std::string_view text, const std::function<int(std::string_view)>& find_register);

}  // namespace kiln::emulator
