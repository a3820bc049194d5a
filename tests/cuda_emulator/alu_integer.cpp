// Integer arithmetic, PTX ISA 9.7.1.
#include <algorithm>
#include <limits>

#include "tests/cuda_emulator/decode.h"
#include "tests/cuda_emulator/rows.h"

namespace kiln::emulator {

namespace {

// Sums and products are computed without sign, in at least 32 bits: no overflow is undefined.
template <class T>
using Wide = std::conditional_t<(sizeof(T) < 4), uint32_t, std::make_unsigned_t<T>>;

template <class T>
T high_half(T a, T b) {
  if constexpr (sizeof(T) == 8) {
    using Double = std::conditional_t<std::is_signed_v<T>, __int128_t, __uint128_t>;
    return static_cast<T>((static_cast<Double>(a) * static_cast<Double>(b)) >> 64);
  } else {
    using Double = std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>;
    return static_cast<T>((static_cast<Double>(a) * static_cast<Double>(b)) >> (8 * sizeof(T)));
  }
}

// Division by zero gives all ones, as the hardware does; the ISA leaves it open.
template <class T>
T quotient(T a, T b) {
  if (b == 0) return static_cast<T>(-1);
  if constexpr (std::is_signed_v<T>) {
    if (b == -1) return static_cast<T>(0 - static_cast<Wide<T>>(a));
  }
  return static_cast<T>(a / b);
}

template <class T>
T remainder_of(T a, T b) {
  if (b == 0) return a;
  if constexpr (std::is_signed_v<T>) {
    if (b == -1) return 0;
  }
  return static_cast<T>(a % b);
}

template <class T>
T magnitude(T a) {
  if constexpr (std::is_signed_v<T>) {
    if (a < 0) return static_cast<T>(0 - static_cast<Wide<T>>(a));
  }
  return a;
}

int32_t saturated_sum(int32_t a, int64_t b) {
  return static_cast<int32_t>(
      std::clamp<int64_t>(a + b, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()));
}

AluFunction two_operands(const Statement& s, Type type) {
  if (s.opcode == "add" && s.has("sat")) {
    return type == Type::kS32
               ? binary<int32_t, int32_t, int32_t>([](int32_t a, int32_t b) { return saturated_sum(a, b); })
               : nullptr;
  }
  if (s.opcode == "sub" && s.has("sat")) {
    return type == Type::kS32 ? binary<int32_t, int32_t, int32_t>([](int32_t a, int32_t b) {
      return saturated_sum(a, -static_cast<int64_t>(b));
    })
                              : nullptr;
  }
  if (s.opcode == "add") {
    return for_unsigned(type, []<class T>(T) {
      return binary<T, T, T>([](T a, T b) { return static_cast<T>(Wide<T>{a} + Wide<T>{b}); });
    });
  }
  if (s.opcode == "sub") {
    return for_unsigned(type, []<class T>(T) {
      return binary<T, T, T>([](T a, T b) { return static_cast<T>(Wide<T>{a} - Wide<T>{b}); });
    });
  }
  if (s.opcode == "mul" && s.has("lo")) {
    return for_unsigned(type, []<class T>(T) {
      return binary<T, T, T>([](T a, T b) { return static_cast<T>(Wide<T>{a} * Wide<T>{b}); });
    });
  }
  if (s.opcode == "mul" && s.has("hi")) {
    return for_integer(type,
                       []<class T>(T) { return binary<T, T, T>([](T a, T b) { return high_half(a, b); }); });
  }
  if (s.opcode == "min") {
    return for_integer(type,
                       []<class T>(T) { return binary<T, T, T>([](T a, T b) { return a < b ? a : b; }); });
  }
  if (s.opcode == "max") {
    return for_integer(type,
                       []<class T>(T) { return binary<T, T, T>([](T a, T b) { return a > b ? a : b; }); });
  }
  if (s.opcode == "div") {
    return for_integer(type,
                       []<class T>(T) { return binary<T, T, T>([](T a, T b) { return quotient(a, b); }); });
  }
  if (s.opcode == "rem") {
    return for_integer(
        type, []<class T>(T) { return binary<T, T, T>([](T a, T b) { return remainder_of(a, b); }); });
  }
  return nullptr;
}

AluFunction wide_product(Type type) {
  switch (type) {
    case Type::kS16:
      return binary<int32_t, int16_t, int16_t>([](int16_t a, int16_t b) { return int32_t{a} * b; });
    case Type::kU16:
      return binary<uint32_t, uint16_t, uint16_t>([](uint16_t a, uint16_t b) { return uint32_t{a} * b; });
    case Type::kS32:
      return binary<int64_t, int32_t, int32_t>([](int32_t a, int32_t b) { return int64_t{a} * b; });
    case Type::kU32:
      return binary<uint64_t, uint32_t, uint32_t>([](uint32_t a, uint32_t b) { return uint64_t{a} * b; });
    default:
      return nullptr;
  }
}

AluFunction wide_multiply_add(Type type) {
  switch (type) {
    case Type::kS16:
      return ternary<uint32_t, int16_t, int16_t, uint32_t>(
          [](int16_t a, int16_t b, uint32_t c) { return static_cast<uint32_t>(int32_t{a} * b) + c; });
    case Type::kU16:
      return ternary<uint32_t, uint16_t, uint16_t, uint32_t>(
          [](uint16_t a, uint16_t b, uint32_t c) { return uint32_t{a} * b + c; });
    case Type::kS32:
      return ternary<uint64_t, int32_t, int32_t, uint64_t>(
          [](int32_t a, int32_t b, uint64_t c) { return static_cast<uint64_t>(int64_t{a} * b) + c; });
    case Type::kU32:
      return ternary<uint64_t, uint32_t, uint32_t, uint64_t>(
          [](uint32_t a, uint32_t b, uint64_t c) { return uint64_t{a} * b + c; });
    default:
      return nullptr;
  }
}

AluFunction multiply_add(const Statement& s, Type type) {
  if (s.has("lo")) {
    return for_unsigned(type, []<class T>(T) {
      return ternary<T, T, T, T>(
          [](T a, T b, T c) { return static_cast<T>(Wide<T>{a} * Wide<T>{b} + Wide<T>{c}); });
    });
  }
  if (s.has("hi")) {
    return for_integer(type, []<class T>(T) {
      return ternary<T, T, T, T>([](T a, T b, T c) {
        return static_cast<T>(static_cast<Wide<T>>(high_half(a, b)) + static_cast<Wide<T>>(c));
      });
    });
  }
  return nullptr;
}

AluFunction one_operand(const Statement& s, Type type) {
  if (s.opcode == "neg") {
    return for_unsigned(type, []<class T>(T) {
      return unary<T, T>([](T a) { return static_cast<T>(Wide<T>{0} - Wide<T>{a}); });
    });
  }
  if (s.opcode == "abs") {
    return for_integer(type, []<class T>(T) { return unary<T, T>([](T a) { return magnitude(a); }); });
  }
  return nullptr;
}

Type doubled(Type type) {
  return bytes_of(type) == 2 ? Type::kB32 : Type::kB64;
}

}  // namespace

bool decode_integer(const Statement& s, Rows& rows, Kernel&, Op& op) {
  const Type type = s.type();
  const bool is_integer = type == Type::kS16 || type == Type::kU16 || type == Type::kS32 ||
                          type == Type::kU32 || type == Type::kS64 || type == Type::kU64;
  if (!is_integer) return false;
  op.kind = OpKind::kRow;
  if (s.opcode == "add" || s.opcode == "sub" || s.opcode == "min" || s.opcode == "max" || s.opcode == "div" ||
      s.opcode == "rem" || (s.opcode == "mul" && !s.has("wide"))) {
    only_modifiers(s, {"lo", "hi", "sat"});
    op.run = two_operands(s, type);
    op.d = rows.destination(operand(s, 0), type);
    op.a = rows.source(operand(s, 1), type);
    op.b = rows.source(operand(s, 2), type);
  } else if (s.opcode == "mul") {
    only_modifiers(s, {"wide"});
    op.run = wide_product(type);
    op.d = rows.destination(operand(s, 0), doubled(type));
    op.a = rows.source(operand(s, 1), type);
    op.b = rows.source(operand(s, 2), type);
  } else if (s.opcode == "mad") {
    only_modifiers(s, {"lo", "hi", "wide"});
    const Type result = s.has("wide") ? doubled(type) : type;
    op.run = s.has("wide") ? wide_multiply_add(type) : multiply_add(s, type);
    op.d = rows.destination(operand(s, 0), result);
    op.a = rows.source(operand(s, 1), type);
    op.b = rows.source(operand(s, 2), type);
    op.c = rows.source(operand(s, 3), result);
  } else if (s.opcode == "neg" || s.opcode == "abs") {
    only_modifiers(s, {});
    op.run = one_operand(s, type);
    op.d = rows.destination(operand(s, 0), type);
    op.a = rows.source(operand(s, 1), type);
  } else {
    return false;
  }
  if (op.run == nullptr) throw UnsupportedInstruction("of that type");
  op.width = static_cast<uint8_t>(s.has("wide") ? 2 * bytes_of(type) : bytes_of(type));
  return true;
}

}  // namespace kiln::emulator
