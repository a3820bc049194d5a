// Runs single PTX instructions, fed straight to the parser, on many values at once.
#pragma once

#include <bit>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <set>
#include <string>
#include <vector>

namespace kiln::emulator::testing {

using Bits = uint64_t;
using Values = const std::vector<Bits>&;  // the operands of one thread

inline float f32(Bits bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits));
}
inline double f64(Bits bits) {
  return std::bit_cast<double>(bits);
}
constexpr Bits kNan32 = 0x7fffffff;  // the one NaN that fp32 instructions return
inline Bits bits_of(float x) {
  return x != x ? kNan32 : std::bit_cast<uint32_t>(x);
}
inline Bits bits_of(double x) {
  return std::bit_cast<Bits>(x);
}

constexpr uint8_t kParameterBlock[16] = {0x81, 0x12, 0xf3, 0x64, 0x95, 0x26, 0xd7, 0x48,
                                         0xb9, 0x3a, 0xeb, 0x5c, 0xcd, 0x7e, 0xaf, 0x90};

using Column = std::vector<Bits>;  // one operand's value for each thread

// Launches a kernel of one block with as many threads as the columns are long: `body` finds them in registers %a, %b, %c,
// %e of the types given (b16, b32, b64, pred ...) and leaves its result in %d. Threads whose value in `active` is 0 skip
// the body and keep 0x5a5a... in %d. Returns the results, as 64 bits each. `module` is what stands outside of the kernel.
// The kernel's parameter `block` are the 16 bytes kParameterBlock.
Column run_ptx(const std::string& body, const std::string& result, const std::vector<std::string>& types,
               const std::vector<Column>& columns, const Column& active = {}, const std::string& module = "");

// What all bodies so far consisted of: the forms of their statements (forms.h), and every "opcode.modifier".
const std::set<std::string>& forms_that_ran();
const std::set<std::string>& modifiers_that_ran();

// Runs an instruction on all threads, and once more with every second lane switched off, and expects `expected` of the
// operands, bit by bit (`differ` may excuse). What the switched-off lanes hold must not change.
using Reference = std::function<Bits(Values)>;
void expect_ptx(const std::string& body, const std::string& result, const std::vector<std::string>& types,
                const std::vector<Column>& columns, const Reference& expected,
                const std::string& module = "");

// Columns of values that matter (limits, signs, subnormals, NaN, ties) combined with each other, then random ones; as
// many as there are types, the same length. Types as in PTX: s32, u64, f32, f16 ...
std::vector<Column> interesting(const std::vector<std::string>& types);

}  // namespace kiln::emulator::testing
