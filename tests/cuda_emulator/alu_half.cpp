// Arithmetic in f16 and bf16 and in pairs of them, PTX ISA 9.7.4.
//
// add, sub and mul are computed in fp32 and rounded once more: with 24 bits, at least twice the 11 of f16 and two more,
// that gives the correctly rounded result. fma goes through fp64, see fused_for_small.
#include <cmath>

#include "tests/cuda_emulator/decode.h"
#include "tests/cuda_emulator/rows.h"
#include "tests/cuda_emulator/small_floats.h"

namespace kiln::emulator {

namespace {

struct Half {
  static float in(uint16_t bits) { return half_to_float(bits); }
  static uint16_t out(double x) { return to_small(x, kHalf, Rounding::kNearest); }
  static constexpr bool kFlushes = false;
};

struct Brain {
  static float in(uint16_t bits) { return brain_to_float(bits); }
  static uint16_t out(double x) { return to_small(x, kBrain, Rounding::kNearest); }
  static constexpr bool kFlushes = true;
};

constexpr uint16_t kSmallNan = 0x7fff;

bool is_nan(float x) {
  return x != x;
}

struct Add {
  template <class T>
  static uint16_t run(uint16_t a, uint16_t b, uint16_t) {
    return T::out(static_cast<double>(T::in(a) + T::in(b)));
  }
};
struct Subtract {
  template <class T>
  static uint16_t run(uint16_t a, uint16_t b, uint16_t) {
    return T::out(static_cast<double>(T::in(a)-T::in(b)));
  }
};
struct Multiply {
  template <class T>
  static uint16_t run(uint16_t a, uint16_t b, uint16_t) {
    return T::out(static_cast<double>(T::in(a)*T::in(b)));
  }
};
struct FusedMultiplyAdd {
  template <class T>
  static uint16_t run(uint16_t a, uint16_t b, uint16_t c) {
    return T::out(fused_for_small(static_cast<double>(T::in(a)), static_cast<double>(T::in(b)),
                                  static_cast<double>(T::in(c))));
  }
};
struct FusedMultiplyAddRelu {
  template <class T>
  static uint16_t run(uint16_t a, uint16_t b, uint16_t c) {
    const uint16_t result = FusedMultiplyAdd::run<T>(a, b, c);
    if (is_nan(T::in(result))) return kSmallNan;
    return result & 0x8000 ? 0 : result;
  }
};
struct Minimum {
  template <class T>
  static uint16_t run(uint16_t a, uint16_t b, uint16_t) {
    const float x = T::in(a), y = T::in(b);
    if (is_nan(x)) return is_nan(y) ? kSmallNan : b;
    if (is_nan(y)) return a;
    if (x == y) return a & 0x8000 ? a : b;
    return x < y ? a : b;
  }
};
struct Maximum {
  template <class T>
  static uint16_t run(uint16_t a, uint16_t b, uint16_t) {
    const float x = T::in(a), y = T::in(b);
    if (is_nan(x)) return is_nan(y) ? kSmallNan : b;
    if (is_nan(y)) return a;
    if (x == y) return a & 0x8000 ? b : a;
    return x > y ? a : b;
  }
};
struct MinimumOrNan {
  template <class T>
  static uint16_t run(uint16_t a, uint16_t b, uint16_t c) {
    return is_nan(T::in(a)) || is_nan(T::in(b)) ? kSmallNan : Minimum::run<T>(a, b, c);
  }
};
struct MaximumOrNan {
  template <class T>
  static uint16_t run(uint16_t a, uint16_t b, uint16_t c) {
    return is_nan(T::in(a)) || is_nan(T::in(b)) ? kSmallNan : Maximum::run<T>(a, b, c);
  }
};
struct Negate {
  template <class T>
  static uint16_t run(uint16_t a, uint16_t, uint16_t) {
    return a ^ 0x8000;
  }
};
struct Absolute {
  template <class T>
  static uint16_t run(uint16_t a, uint16_t, uint16_t) {
    return a & 0x7fff;
  }
};
struct Exp2 {  // of bf16 always .ftz
  template <class T>
  static uint16_t run(uint16_t a, uint16_t, uint16_t) {
    const uint16_t result = T::out(std::exp2(static_cast<double>(T::in(a))));
    return T::kFlushes && (result & 0x7f80) == 0 ? 0 : result;
  }
};
struct Tanh {
  template <class T>
  static uint16_t run(uint16_t a, uint16_t, uint16_t) {
    return T::out(std::tanh(static_cast<double>(T::in(a))));
  }
};

// Rows of single numbers (E = uint16_t) or of pairs (E = uint32_t, low half first).
template <class F, class T, class E>
void run_small(Registers r, const Op& op, uint32_t) {
  E* d = row<E>(r, op.d);
  const E* a = row<const E>(r, op.a);
  const E* b = op.b == kNoRow ? a : row<const E>(r, op.b);
  const E* c = op.c == kNoRow ? a : row<const E>(r, op.c);
  for (int l = 0; l < kLanes; ++l) {
    E result = 0;
    for (uint32_t shift = 0; shift < 8 * sizeof(E); shift += 16) {
      const uint16_t part =
          F::template run<T>(static_cast<uint16_t>(a[l] >> shift), static_cast<uint16_t>(b[l] >> shift),
                             static_cast<uint16_t>(c[l] >> shift));
      result = static_cast<E>(result | static_cast<E>(static_cast<uint32_t>(part) << shift));
    }
    d[l] = result;
  }
}

template <class F>
AluFunction of_type(Type type) {
  switch (type) {
    case Type::kF16:
      return run_small<F, Half, uint16_t>;
    case Type::kBf16:
      return run_small<F, Brain, uint16_t>;
    case Type::kF16x2:
      return run_small<F, Half, uint32_t>;
    default:
      return run_small<F, Brain, uint32_t>;
  }
}

}  // namespace

bool decode_half(const Statement& s, Rows& rows, Kernel&, Op& op) {
  const Type type = s.type();
  if (type != Type::kF16 && type != Type::kBf16 && type != Type::kF16x2 && type != Type::kBf16x2)
    return false;
  op.kind = OpKind::kRow;
  op.width = static_cast<uint8_t>(bytes_of(type));
  size_t sources = 2;
  if (s.opcode == "add" || s.opcode == "sub" || s.opcode == "mul") {
    only_modifiers(s, {"rn"});
    op.run = s.opcode == "add"   ? of_type<Add>(type)
             : s.opcode == "sub" ? of_type<Subtract>(type)
                                 : of_type<Multiply>(type);
  } else if (s.opcode == "fma") {
    only_modifiers(s, {"rn", "relu"});
    sources = 3;
    op.run = s.has("relu") ? of_type<FusedMultiplyAddRelu>(type) : of_type<FusedMultiplyAdd>(type);
  } else if (s.opcode == "min" || s.opcode == "max") {
    only_modifiers(s, {"NaN"});
    const bool minimum = s.opcode == "min";
    op.run = s.has("NaN") ? (minimum ? of_type<MinimumOrNan>(type) : of_type<MaximumOrNan>(type))
                          : (minimum ? of_type<Minimum>(type) : of_type<Maximum>(type));
  } else if (s.opcode == "neg" || s.opcode == "abs") {
    only_modifiers(s, {});
    sources = 1;
    op.run = s.opcode == "neg" ? of_type<Negate>(type) : of_type<Absolute>(type);
  } else if (s.opcode == "ex2" || s.opcode == "tanh") {
    only_modifiers(s, {"approx", "ftz"});
    sources = 1;
    op.run = s.opcode == "ex2" ? of_type<Exp2>(type) : of_type<Tanh>(type);
  } else {
    return false;
  }
  op.d = rows.destination(operand(s, 0), type);
  op.a = rows.source(operand(s, 1), type);
  if (sources > 1) op.b = rows.source(operand(s, 2), type);
  if (sources > 2) op.c = rows.source(operand(s, 3), type);
  return true;
}

}  // namespace kiln::emulator
