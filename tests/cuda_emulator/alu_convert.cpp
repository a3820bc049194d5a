// cvt, PTX ISA 9.7.9.21.
//
// Source and destination registers may be wider than the types: a source is then read from its low bits, a destination
// extended to the register's width.
#include <cmath>
#include <limits>

#include "tests/cuda_emulator/decode.h"
#include "tests/cuda_emulator/rows.h"
#include "tests/cuda_emulator/small_floats.h"

namespace kiln::emulator {

namespace {

bool is_float(Type type) {
  return type == Type::kF16 || type == Type::kBf16 || type == Type::kF32 || type == Type::kF64 ||
         type == Type::kTf32;
}

uint64_t read_element(Registers r, uint32_t offset, int width, int lane) {
  uint64_t value = 0;
  __builtin_memcpy(&value, r + offset + static_cast<uint32_t>(lane * width), static_cast<size_t>(width));
  return value;
}

void write_element(Registers r, uint32_t offset, int width, int lane, uint64_t value) {
  __builtin_memcpy(r + offset + static_cast<uint32_t>(lane * width), &value, static_cast<size_t>(width));
}

uint64_t extended(uint64_t value, int bits, bool sign) {
  if (bits == 64) return value;
  const uint64_t field = value & ((uint64_t{1} << bits) - 1);
  return sign && (field >> (bits - 1) & 1) ? field | ~uint64_t{0} << bits : field;
}

// ---- integer to integer ----

template <class D>
AluFunction resize_from(Type source) {
  return for_integer(source, []<class S>(S) { return unary<D, S>([](S a) { return static_cast<D>(a); }); });
}

AluFunction resize(int to_bytes, Type from) {
  return to_bytes == 2   ? resize_from<uint16_t>(from)
         : to_bytes == 4 ? resize_from<uint32_t>(from)
                         : resize_from<uint64_t>(from);
}

// Clamps a number of the source's type into the destination's range.
uint64_t saturated(uint64_t value, Type to, Type from) {
  using Wide = __int128_t;
  const Wide number = is_signed(from) ? Wide{static_cast<int64_t>(value)} : Wide{value};
  const int bits = 8 * bytes_of(to) - (is_signed(to) ? 1 : 0);
  const Wide high = (Wide{1} << bits) - 1, low = is_signed(to) ? -high - 1 : 0;
  return static_cast<uint64_t>(number < low ? low : number > high ? high : number);
}

uint64_t convert_integer(uint64_t bits, const Conversion& how) {
  const uint64_t value = extended(bits, 8 * bytes_of(how.from), is_signed(how.from));
  return how.saturates ? saturated(value, how.to, how.from) : value;
}

// ---- with floating point: through fp64, which holds every number but 64-bit integers exactly ----

double flushed(double x) {
  return std::fabs(x) < 0x1p-126 ? std::copysign(0.0, x) : x;
}

double read_number(uint64_t bits, Type type) {
  switch (type) {
    case Type::kF16:
      return static_cast<double>(half_to_float(static_cast<uint16_t>(bits)));
    case Type::kBf16:
      return static_cast<double>(brain_to_float(static_cast<uint16_t>(bits)));
    case Type::kF32:
      return static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(bits)));
    case Type::kF64:
      return std::bit_cast<double>(bits);
    default:
      break;
  }
  const uint64_t value = extended(bits, 8 * bytes_of(type), is_signed(type));
  return is_signed(type) ? static_cast<double>(static_cast<int64_t>(value)) : static_cast<double>(value);
}

double integral_part(double x, Rounding how) {
  switch (how) {
    case Rounding::kZero:
      return std::trunc(x);
    case Rounding::kDown:
      return std::floor(x);
    case Rounding::kUp:
      return std::ceil(x);
    default:
      return std::nearbyint(x);
  }
}

// Out of range goes to the nearest number; NaN to 0, or to the sign bit alone where 64 bits or fp64 are involved.
uint64_t to_integer(double x, Type to, Type from) {
  const int bits = 8 * bytes_of(to);
  if (x != x) return bytes_of(to) == 8 || from == Type::kF64 ? uint64_t{1} << (bits - 1) : 0;
  const double top = std::ldexp(1.0, is_signed(to) ? bits - 1 : bits), bottom = is_signed(to) ? -top : 0.0;
  if (x >= top) return (is_signed(to) ? uint64_t{1} << (bits - 1) : bits == 64 ? 0 : uint64_t{1} << bits) - 1;
  if (x <= bottom) return is_signed(to) ? ~uint64_t{0} << (bits - 1) : 0;
  return x < 0 ? static_cast<uint64_t>(static_cast<int64_t>(x)) : static_cast<uint64_t>(x);
}

// fp64 to fp32 in a rounding mode, by one step from the nearest.
float to_float(double x, Rounding rounding) {
  if (x != x) return std::bit_cast<float>(0x7fffffffu);
  const float nearest = static_cast<float>(x);
  const double back = static_cast<double>(nearest);
  const bool wants_down = rounding == Rounding::kDown || (rounding == Rounding::kZero && x > 0);
  const bool wants_up = rounding == Rounding::kUp || (rounding == Rounding::kZero && x < 0);
  if (back > x && wants_down) return std::nextafter(nearest, -std::numeric_limits<float>::infinity());
  if (back < x && wants_up) return std::nextafter(nearest, std::numeric_limits<float>::infinity());
  return nearest;
}

// fp32 to the 10 bits of fraction of tf32, ties away from zero.
uint32_t to_tf32(double x) {
  const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(x));
  return (bits & 0x7fffffffu) > 0x7f800000u ? 0x7fffffffu : (bits + 0x1000u) & 0xffffe000u;
}

uint64_t convert_number(uint64_t bits, const Conversion& how) {
  double x = read_number(bits, how.from);
  if (how.flushes && how.from == Type::kF32) x = flushed(x);
  if (how.to_integral) x = integral_part(x, how.rounding);
  if (!is_float(how.to)) return to_integer(x, how.to, how.from);
  if (how.saturates) x = x > 0 ? (x < 1 ? x : 1.0) : 0.0;
  if (how.relu) x = x > 0 || x != x ? x : 0.0;
  switch (how.to) {
    case Type::kF64:
      return std::bit_cast<uint64_t>(x);
    case Type::kF16:
      return to_small(x, kHalf, how.rounding);
    case Type::kBf16:
      return to_small(x, kBrain, how.rounding);
    case Type::kTf32:
      return to_tf32(x);
    default:
      break;
  }
  const float result = to_float(x, how.to_integral ? Rounding::kNearest : how.rounding);
  return std::bit_cast<uint32_t>(how.flushes ? static_cast<float>(flushed(static_cast<double>(result)))
                                             : result);
}

void run_conversion(Registers r, const Op& op, uint32_t) {
  const Conversion& how = op.detail->conversion;
  const bool integers = !is_float(how.to) && !is_float(how.from);
  for (int l = 0; l < kLanes; ++l) {
    const uint64_t bits = read_element(r, op.a, how.from_register, l);
    const uint64_t result = integers ? convert_integer(bits, how) : convert_number(bits, how);
    write_element(r, op.d, how.to_register, l, extended(result, 8 * bytes_of(how.to), is_signed(how.to)));
  }
}

// cvt.rn.bf16x2.f32 d, a, b: a becomes the upper half.
void run_pair(Registers r, const Op& op, uint32_t) {
  const Conversion& how = op.detail->conversion;
  for (int l = 0; l < kLanes; ++l) {
    const uint64_t high = convert_number(read_element(r, op.a, 4, l), how);
    const uint64_t low = convert_number(read_element(r, op.b, 4, l), how);
    row<uint32_t>(r, op.d)[l] = static_cast<uint32_t>(high << 16 | low);
  }
}

AluFunction nearest_brain_pair() {
  return binary<uint32_t, float, float>(
      [](float a, float b) { return uint32_t{float_to_brain(a)} << 16 | float_to_brain(b); });
}

// The conversions that kernels do all the time, as vector loops.
AluFunction common_conversion(const Statement& s, Type to, Type from) {
  if (s.modifiers.size() == 2) {
    if (to == Type::kF32 && from == Type::kF16) {
      return unary<float, uint16_t>([](uint16_t a) { return half_to_float(a); });
    }
    if (to == Type::kF32 && from == Type::kBf16) {
      return unary<float, uint16_t>([](uint16_t a) { return brain_to_float(a); });
    }
    if (to == Type::kF64 && from == Type::kF32) {
      return unary<double, float>([](float a) { return static_cast<double>(a); });
    }
  }
  if (s.modifiers.size() != 3 || !s.has("rn")) return nullptr;
  if (to == Type::kBf16 && from == Type::kF32) {
    return unary<uint16_t, float>([](float a) { return float_to_brain(a); });
  }
  if (to == Type::kF32 && from == Type::kS32) {
    return unary<float, int32_t>([](int32_t a) { return static_cast<float>(a); });
  }
  if (to == Type::kF32 && from == Type::kU32) {
    return unary<float, uint32_t>([](uint32_t a) { return static_cast<float>(a); });
  }
  return nullptr;
}

// 64-bit integers must not pass through fp64 on their way to fp32: that would round twice.
AluFunction from_long_integer(Type to, Type from) {
  if (to == Type::kF32 && from == Type::kS64) {
    return unary<float, int64_t>([](int64_t a) { return static_cast<float>(a); });
  }
  if (to == Type::kF32) return unary<float, uint64_t>([](uint64_t a) { return static_cast<float>(a); });
  if (from == Type::kS64) return unary<double, int64_t>([](int64_t a) { return static_cast<double>(a); });
  return unary<double, uint64_t>([](uint64_t a) { return static_cast<double>(a); });
}

Conversion conversion_of(const Statement& s, Type to, Type from) {
  Conversion how;
  how.to = to;
  how.from = from;
  how.rounding = s.has("rna") ? Rounding::kAway : rounding_of(s).value_or(Rounding::kNearest);
  constexpr std::pair<std::string_view, Rounding> kIntegral[] = {{"rni", Rounding::kNearest},
                                                                 {"rzi", Rounding::kZero},
                                                                 {"rmi", Rounding::kDown},
                                                                 {"rpi", Rounding::kUp}};
  for (const auto& [name, rounding] : kIntegral) {
    if (!s.has(name)) continue;
    how.to_integral = true;
    how.rounding = rounding;
  }
  if (is_float(from) && !is_float(to) && !how.to_integral)
    throw UnsupportedInstruction("without an integer rounding");
  how.saturates = s.has("sat");
  how.flushes = s.has("ftz");
  how.relu = s.has("relu");
  return how;
}

void decode_single(const Statement& s, Rows& rows, Kernel& kernel, Op& op, Type to, Type from) {
  const Operand &d = operand(s, 0), &a = operand(s, 1);
  const bool is_register = a.kind == Operand::Kind::kRegister;
  op.d = rows.any_width_destination(d);
  op.width = static_cast<uint8_t>(rows.width_of(d));
  const int from_width = is_register ? rows.width_of(a) : bytes_of(from);
  op.a = is_register ? rows.any_width_source(a, from_width) : rows.source(a, from);
  const bool exact_widths = op.width == bytes_of(to) && from_width == bytes_of(from);
  if (exact_widths && !is_float(to) && !is_float(from) && !s.has("sat")) op.run = resize(op.width, from);
  if (exact_widths && op.run == nullptr) op.run = common_conversion(s, to, from);
  if (op.run != nullptr) return;
  const Conversion how = conversion_of(s, to, from);
  if (is_float(to) && !is_float(from) && bytes_of(from) == 8) {
    if (how.saturates || how.flushes || !exact_widths || bytes_of(to) == 2) {
      throw UnsupportedInstruction("of that form");
    }
    run_rounded(kernel, op, from_long_integer(to, from), how.rounding);
    return;
  }
  Detail& detail = kernel.details.emplace_back();
  detail.conversion = how;
  detail.conversion.to_register = op.width;
  detail.conversion.from_register = from_width;
  op.detail = &detail;
  op.run = run_conversion;
}

void decode_pair(const Statement& s, Rows& rows, Kernel& kernel, Op& op, Type to) {
  op.width = 4;
  op.d = rows.destination(operand(s, 0), to);
  op.a = rows.source(operand(s, 1), Type::kF32);
  op.b = rows.source(operand(s, 2), Type::kF32);
  if (to == Type::kBf16x2 && s.modifiers.size() == 3 && s.has("rn")) {
    op.run = nearest_brain_pair();
    return;
  }
  Detail& detail = kernel.details.emplace_back();
  detail.conversion = conversion_of(s, to == Type::kBf16x2 ? Type::kBf16 : Type::kF16, Type::kF32);
  op.detail = &detail;
  op.run = run_pair;
}

}  // namespace

bool decode_convert(const Statement& s, Rows& rows, Kernel& kernel, Op& op) {
  if (s.opcode != "cvt") return false;
  only_modifiers(s, {"rn", "rz", "rm", "rp", "rna", "rni", "rzi", "rmi", "rpi", "sat", "ftz", "relu"});
  const Type to = s.type(0), from = s.type(1);
  op.kind = OpKind::kRow;
  const bool pair = to == Type::kBf16x2 || to == Type::kF16x2;
  if (to == Type::kNone || from == Type::kNone || (pair && from != Type::kF32)) {
    throw UnsupportedInstruction("of that type");
  }
  if (pair) {
    decode_pair(s, rows, kernel, op, to);
  } else {
    decode_single(s, rows, kernel, op, to, from);
  }
  return true;
}

}  // namespace kiln::emulator
