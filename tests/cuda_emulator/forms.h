// The forms of instructions that the emulator has: opcode, modifiers and types, as the PTX ISA orders them. A statement of
// any other form is an unsupported instruction, whatever a decoder would make of it; and every one stands in a kernel that the
// unit tests run (tests/forms_test.cpp).
#pragma once

#include <set>
#include <string>
#include <vector>

#include "tests/cuda_emulator/ptx_text.h"

namespace kiln::emulator {

// "ld.global.v4.f32": without modifiers that change nothing here (hints for caches, scopes, .uni, .aligned).
std::string form_of(const Statement& s);

const std::set<std::string>& known_forms();

// The modifiers that form_of leaves out, as "opcode.modifier".
std::vector<std::string> modifiers_without_effect();

}  // namespace kiln::emulator
