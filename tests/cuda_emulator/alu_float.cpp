// Floating-point arithmetic in fp32 and fp64, PTX ISA 9.7.3.
#include <cmath>
#include <limits>

#include "tests/cuda_emulator/decode.h"
#include "tests/cuda_emulator/rows.h"

namespace kiln::emulator {

namespace {

// Every fp32 operation returns this NaN; fp64 ones keep what the processor gives.
float one_nan(float x) {
  return x == x ? x : std::bit_cast<float>(0x7fffffffu);
}
double one_nan(double x) {
  return x;
}

// .sat: to [0, 1], NaN to +0.
float saturate(float x) {
  return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f;
}

struct Plain {
  static float in(float x) { return x; }
  static float out(float x) { return one_nan(x); }
};
struct Flushed {  // .ftz
  static float in(float x) { return flush(x); }
  static float out(float x) { return one_nan(flush(x)); }
};
struct Saturated {
  static float in(float x) { return x; }
  static float out(float x) { return saturate(x); }
};
struct FlushedSaturated {
  static float in(float x) { return flush(x); }
  static float out(float x) { return saturate(flush(x)); }
};

template <class Make>
AluFunction with_modes(const Statement& s, Make make) {
  if (s.has("ftz")) return s.has("sat") ? make(FlushedSaturated{}) : make(Flushed{});
  return s.has("sat") ? make(Saturated{}) : make(Plain{});
}

AluFunction arithmetic32(const Statement& s) {
  if (s.opcode == "add") {
    return with_modes(s, []<class M>(M) {
      return binary<float, float, float>([](float a, float b) { return M::out(M::in(a) + M::in(b)); });
    });
  }
  if (s.opcode == "sub") {
    return with_modes(s, []<class M>(M) {
      return binary<float, float, float>([](float a, float b) { return M::out(M::in(a)-M::in(b)); });
    });
  }
  if (s.opcode == "mul") {
    return with_modes(s, []<class M>(M) {
      return binary<float, float, float>([](float a, float b) { return M::out(M::in(a)*M::in(b)); });
    });
  }
  return with_modes(s, []<class M>(M) {  // fma, mad
    return ternary<float, float, float, float>(
        [](float a, float b, float c) { return M::out(__builtin_fmaf(M::in(a), M::in(b), M::in(c))); });
  });
}

AluFunction arithmetic64(const Statement& s) {
  if (s.opcode == "add") return binary<double, double, double>([](double a, double b) { return a + b; });
  if (s.opcode == "sub") return binary<double, double, double>([](double a, double b) { return a - b; });
  if (s.opcode == "mul") return binary<double, double, double>([](double a, double b) { return a * b; });
  return ternary<double, double, double, double>(
      [](double a, double b, double c) { return __builtin_fma(a, b, c); });
}

// A NaN loses against a number; -0 is less than +0.
template <class T>
T least(T a, T b) {
  if (a != a) return one_nan(b);
  if (b != b) return a;
  if (a == b) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}

template <class T>
T greatest(T a, T b) {
  if (a != a) return one_nan(b);
  if (b != b) return a;
  if (a == b) return std::signbit(a) ? b : a;
  return a > b ? a : b;
}

template <class T, bool kMinimum>
T extreme_or_nan(T a, T b) {  // .NaN: a NaN wins
  if (a != a || b != b) return one_nan(std::numeric_limits<T>::quiet_NaN());
  return kMinimum ? least(a, b) : greatest(a, b);
}

AluFunction extreme32(const Statement& s) {
  using F = float;
  const bool minimum = s.opcode == "min";
  if (s.has("NaN") && s.has("ftz")) {
    return minimum ? binary<F, F, F>([](F a, F b) { return extreme_or_nan<F, true>(flush(a), flush(b)); })
                   : binary<F, F, F>([](F a, F b) { return extreme_or_nan<F, false>(flush(a), flush(b)); });
  }
  if (s.has("NaN")) {
    return minimum ? binary<F, F, F>([](F a, F b) { return extreme_or_nan<F, true>(a, b); })
                   : binary<F, F, F>([](F a, F b) { return extreme_or_nan<F, false>(a, b); });
  }
  if (s.has("ftz")) {
    return minimum ? binary<F, F, F>([](F a, F b) { return least(flush(a), flush(b)); })
                   : binary<F, F, F>([](F a, F b) { return greatest(flush(a), flush(b)); });
  }
  return minimum ? binary<F, F, F>([](F a, F b) { return least(a, b); })
                 : binary<F, F, F>([](F a, F b) { return greatest(a, b); });
}

// div.approx: a quotient by a divisor above 2^126 is zero, or NaN where the dividend is infinite.
float approximate_quotient(float a, float b) {
  const float size = std::fabs(b);
  if (size > 0x1p126f && size <= std::numeric_limits<float>::max()) {
    return std::isinf(a) || a != a ? one_nan(std::numeric_limits<float>::quiet_NaN())
                                   : std::copysign(0.0f, std::copysign(1.0f, a) * b);
  }
  return one_nan(a / b);
}

AluFunction division32(const Statement& s) {
  using F = float;
  if (s.has("approx")) {
    if (s.has("ftz"))
      return binary<F, F, F>([](F a, F b) { return flush(approximate_quotient(flush(a), flush(b))); });
    return binary<F, F, F>([](F a, F b) { return approximate_quotient(a, b); });
  }
  if (s.has("ftz")) return binary<F, F, F>([](F a, F b) { return one_nan(flush(flush(a) / flush(b))); });
  return binary<F, F, F>([](F a, F b) { return one_nan(a / b); });
}

// One operand: rcp, sqrt and the approximations, computed as exactly as the C library does.
template <class F>
AluFunction one_operand32(const Statement& s, F) {
  if (s.has("ftz")) return unary<float, float>([](float a) { return one_nan(flush(F{}(flush(a)))); });
  return unary<float, float>([](float a) { return one_nan(F{}(a)); });
}

AluFunction function32(const Statement& s) {
  if (s.opcode == "rcp") return one_operand32(s, [](float a) { return 1.0f / a; });
  if (s.opcode == "sqrt") return one_operand32(s, [](float a) { return __builtin_sqrtf(a); });
  if (!s.has("approx")) return nullptr;
  if (s.opcode == "rsqrt") {
    return one_operand32(
        s, [](float a) { return static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(a))); });
  }
  if (s.opcode == "ex2") return one_operand32(s, [](float a) { return std::exp2(a); });
  if (s.opcode == "lg2") return one_operand32(s, [](float a) { return std::log2(a); });
  if (s.opcode == "sin") return one_operand32(s, [](float a) { return std::sin(a); });
  if (s.opcode == "cos") return one_operand32(s, [](float a) { return std::cos(a); });
  if (s.opcode == "tanh") return one_operand32(s, [](float a) { return std::tanh(a); });
  return nullptr;
}

AluFunction function64(const Statement& s) {
  using D = double;
  if (s.opcode == "rcp") return unary<D, D>([](D a) { return 1.0 / a; });
  if (s.opcode == "sqrt") return unary<D, D>([](D a) { return __builtin_sqrt(a); });
  if (s.opcode == "rsqrt") return unary<D, D>([](D a) { return 1.0 / __builtin_sqrt(a); });
  return nullptr;
}

// Signs are bits: NaN keep theirs.
AluFunction sign_operation(const Statement& s, Type type) {
  const bool flushes = s.has("ftz");
  if (type == Type::kF32) {
    if (s.opcode == "neg") {
      return flushes ? unary<float, float>([](float a) { return flush(-a); })
                     : unary<float, float>([](float a) { return -a; });
    }
    return flushes ? unary<float, float>([](float a) { return flush(__builtin_fabsf(a)); })
                   : unary<float, float>([](float a) { return __builtin_fabsf(a); });
  }
  if (s.opcode == "neg") return unary<double, double>([](double a) { return -a; });
  return unary<double, double>([](double a) { return __builtin_fabs(a); });
}

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  for (const std::string_view each : names) {
    if (each == name) return true;
  }
  return false;
}

}  // namespace

bool decode_float(const Statement& s, Rows& rows, Kernel& kernel, Op& op) {
  const Type type = s.type();
  if (type != Type::kF32 && type != Type::kF64) return false;
  const bool single = type == Type::kF32;
  const Rounding rounding = rounding_of(s).value_or(Rounding::kNearest);
  op.kind = OpKind::kRow;
  op.width = static_cast<uint8_t>(bytes_of(type));
  size_t sources = 0;
  if (is_one_of(s.opcode, {"add", "sub", "mul", "fma", "mad"})) {
    only_modifiers(s, {"rn", "rz", "rm", "rp", "ftz", "sat"});
    sources = s.opcode == "fma" || s.opcode == "mad" ? 3 : 2;
    run_rounded(kernel, op, single ? arithmetic32(s) : arithmetic64(s), rounding);
  } else if (s.opcode == "min" || s.opcode == "max") {
    only_modifiers(s, {"ftz", "NaN"});
    sources = 2;
    op.run = single ? extreme32(s)
             : s.opcode == "min"
                 ? binary<double, double, double>([](double a, double b) { return least(a, b); })
                 : binary<double, double, double>([](double a, double b) { return greatest(a, b); });
  } else if (s.opcode == "div") {
    only_modifiers(s, {"rn", "rz", "rm", "rp", "ftz", "approx", "full"});
    sources = 2;
    run_rounded(kernel, op, single ? division32(s) : binary<double, double, double>([](double a, double b) {
                  return a / b;
                }),
                rounding);
  } else if (is_one_of(s.opcode, {"rcp", "sqrt", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh"})) {
    only_modifiers(s, {"rn", "rz", "rm", "rp", "ftz", "approx"});
    sources = 1;
    const AluFunction function = single ? function32(s) : function64(s);
    if (function == nullptr) throw UnsupportedInstruction("of that type");
    run_rounded(kernel, op, function, rounding);
  } else if (s.opcode == "neg" || s.opcode == "abs") {
    only_modifiers(s, {"ftz"});
    sources = 1;
    op.run = sign_operation(s, type);
  } else if (s.opcode == "copysign") {  // the sign of the first, the size of the second
    only_modifiers(s, {});
    sources = 2;
    op.run =
        single ? binary<float, float, float>([](float a, float b) { return __builtin_copysignf(b, a); })
               : binary<double, double, double>([](double a, double b) { return __builtin_copysign(b, a); });
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
