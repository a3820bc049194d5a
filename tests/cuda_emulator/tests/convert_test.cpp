// cvt in all forms that nvcc writes, and f16 and bf16 arithmetic. NVIDIA's own host versions of the conversions, in
// cuda_fp16.h and cuda_bf16.h, are the reference for the 16-bit formats.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <gtest/gtest.h>

#include <bit>
#include <cfenv>
#include <cmath>

#include "tests/cuda_emulator/tests/ptx_harness.h"

namespace kiln::emulator::testing {

namespace {

uint16_t raw(__half x) {
  return __half_raw(x).x;
}
uint16_t raw(__nv_bfloat16 x) {
  return __nv_bfloat16_raw(x).x;
}
float half_value(Bits bits) {
  __half_raw r;
  r.x = static_cast<uint16_t>(bits);
  return __half2float(__half(r));
}
float brain_value(Bits bits) {
  __nv_bfloat16_raw r;
  r.x = static_cast<uint16_t>(bits);
  return __bfloat162float(__nv_bfloat16(r));
}

void check1(const std::string& instruction, const std::string& to, const std::string& from,
            const std::function<Bits(Bits)>& expected) {
  expect_ptx(instruction + " %d, %a;", to, {from}, interesting({from}),
             [&](Values v) { return expected(v[0]); });
}

TEST(Convert, FloatsToSmallFloats) {
  check1("cvt.rn.f16.f64", "f16", "f64", [](Bits a) { return Bits{raw(__double2half(f64(a)))}; });
  const auto relu = [](Bits result, int infinity) {  // NaN stay
    return (result & 0x7fff) > static_cast<Bits>(infinity) || (result & 0x8000) == 0 ? result : 0;
  };
  struct Kind {
    const char* type;
    int infinity;
    Bits (*nearest)(Bits);
    Bits (*to_zero)(Bits);
  };
  constexpr Kind kKinds[] = {{"f16", 0x7c00, [](Bits a) { return Bits{raw(__float2half_rn(f32(a)))}; },
                              [](Bits a) { return Bits{raw(__float2half_rz(f32(a)))}; }},
                             {"bf16", 0x7f80, [](Bits a) { return Bits{raw(__float2bfloat16_rn(f32(a)))}; },
                              [](Bits a) { return Bits{raw(__float2bfloat16_rz(f32(a)))}; }}};
  for (const Kind& kind : kKinds) {
    for (const bool nearest : {true, false}) {
      const auto exact = nearest ? kind.nearest : kind.to_zero;
      for (const bool with_relu : {false, true}) {
        const auto one = [&](Bits a) { return with_relu ? relu(exact(a), kind.infinity) : exact(a); };
        const std::string start =
            std::string("cvt.") + (nearest ? "rn" : "rz") + (with_relu ? ".relu." : ".") + kind.type;
        check1(start + ".f32", kind.type, "f32", one);
        expect_ptx(start + "x2.f32 %d, %a, %b;", "b32", {"f32", "f32"}, interesting({"f32", "f32"}),
                   [&](Values v) { return one(v[0]) << 16 | one(v[1]); });
      }
    }
  }
}

TEST(Convert, SmallFloatsToFloats) {
  check1("cvt.f32.f16", "f32", "f16", [](Bits a) {
    const float x = half_value(a);
    return x != x ? Bits{std::bit_cast<uint32_t>(x)} : bits_of(x);
  });
  check1("cvt.f32.bf16", "f32", "bf16", [](Bits a) { return Bits{std::bit_cast<uint32_t>(brain_value(a))}; });
}

TEST(Convert, FloatsWithFewerBits) {
  check1("cvt.f32.f32", "f32", "f32", [](Bits a) { return bits_of(f32(a)); });
  check1("cvt.rna.tf32.f32", "b32", "f32",
         [](Bits a) {  // ties away from zero, at the 11th bit of the significand
           if (f32(a) != f32(a)) return Bits{0x7fffffff};
           return (a + 0x1000) & 0xffffe000;
         });
}

// ---- every pair of types, from the ISA's words: the exact number, then one rounding, limits, NaN ----

struct NamedRounding {
  const char* name;
  int mode;
};
constexpr NamedRounding kRoundings[] = {
    {"rn", FE_TONEAREST}, {"rz", FE_TOWARDZERO}, {"rm", FE_DOWNWARD}, {"rp", FE_UPWARD}};
constexpr NamedRounding kIntegral[] = {
    {"rni", FE_TONEAREST}, {"rzi", FE_TOWARDZERO}, {"rmi", FE_DOWNWARD}, {"rpi", FE_UPWARD}};
constexpr const char* kIntegers[] = {"s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64"};

int width_of(const std::string& type) {
  return std::stoi(type.substr(type.find_first_of("0123456789")));
}
bool is_integer(const std::string& type) {
  return type[0] == 's' || type[0] == 'u';
}
bool has_sign(const std::string& type) {
  return type[0] == 's';
}
// There are no registers of 8 bits.
std::string register_of(const std::string& type) {
  return width_of(type) == 8 ? "b16" : type;
}

template <class F>
auto in_mode(int mode, F f) {
  std::fesetround(mode);
  const auto result = f();
  std::fesetround(FE_TONEAREST);
  return result;
}

// The number that the low bits of a register are; long double holds every one.
long double number(Bits bits, const std::string& type) {
  if (type == "f16") return static_cast<long double>(half_value(bits));
  if (type == "f32") return static_cast<long double>(f32(bits));
  if (type == "f64") return static_cast<long double>(f64(bits));
  const int unused = 64 - width_of(type);
  if (!has_sign(type)) return static_cast<long double>(bits << unused >> unused);
  return static_cast<long double>(static_cast<int64_t>(bits << unused) >> unused);
}

// An integer of the type, extended to its register; what does not fit is cut off.
Bits in_register(__int128_t value, const std::string& type) {
  const int unused = 64 - width_of(type);
  const Bits bits = static_cast<Bits>(value) << unused;
  return has_sign(type) ? static_cast<Bits>(static_cast<int64_t>(bits) >> unused) : bits >> unused;
}

// To the nearest limit where it is out of range; NaN to zero, or to the sign bit alone where 64 bits or fp64 are involved.
Bits clamped(long double x, const std::string& type, bool from_double) {
  const int width = width_of(type), digits = width - (has_sign(type) ? 1 : 0);
  if (x != x) return width == 64 || from_double ? in_register(__int128_t{1} << (width - 1), type) : 0;
  const long double end = std::ldexp(1.0L, digits), low = has_sign(type) ? -end : 0;
  if (x >= end) return in_register((__int128_t{1} << digits) - 1, type);
  return in_register(static_cast<__int128_t>(x < low ? low : x), type);
}

// IEEE 754 by hand: to multiples of the last place, then beyond the largest number to it or to infinity.
Bits to_half(long double x, int mode) {
  if (x != x) return 0x7fff;
  const Bits sign = std::signbit(x) ? 0x8000 : 0;
  if (x == 0 || std::isinf(x)) return sign | (x == 0 ? 0 : 0x7c00);
  const int exponent = std::max(std::ilogb(x), -14);
  const long double places = in_mode(mode, [&] { return std::nearbyint(std::ldexp(x, 10 - exponent)); });
  if (std::ldexp(std::fabs(places), exponent - 10) <= 65504.0L)
    return sign | static_cast<Bits>(std::fabs(places) + 1024 * static_cast<long double>(exponent + 14));
  const bool to_largest =
      mode == FE_TOWARDZERO || (mode == FE_DOWNWARD && !sign) || (mode == FE_UPWARD && sign);
  return sign | (to_largest ? 0x7bff : 0x7c00);
}

Bits to_float_type(long double x, const std::string& type, int mode) {
  if (type == "f16") return to_half(x, mode);
  volatile long double exact = x;
  if (type == "f64") return bits_of(in_mode(mode, [&] { return static_cast<double>(exact); }));
  return bits_of(in_mode(mode, [&] { return static_cast<float>(exact); }));
}

long double flushed(long double x) {
  return std::fabs(x) < 0x1p-126L ? std::copysign(0.0L, x) : x;
}

// cvt.(modes).to.from for all values that matter; `mode` is what .rn or .rni stand for.
void check_cvt(const std::string& name, const std::string& modes, int mode, const std::string& to,
               const std::string& from) {
  const bool integral = name.ends_with("i"), ftz = modes.find("ftz") != std::string::npos;
  const bool sat = modes.find("sat") != std::string::npos;
  const std::string start = name.empty() ? "cvt" : "cvt." + name;
  const std::string as = is_integer(from) && width_of(from) == 8 ? "u16" : from;
  expect_ptx(start + modes + "." + to + "." + from + " %d, %a;", register_of(to), {as}, interesting({as}),
             [&](Values v) {
               long double x = number(v[0], from);
               if (is_integer(from) && is_integer(to))
                 return sat ? clamped(x, to, false) : in_register(static_cast<__int128_t>(x), to);
               if (ftz && from == "f32") x = flushed(x);
               if (integral) x = in_mode(mode, [&] { return std::nearbyint(x); });
               if (is_integer(to)) return clamped(x, to, from == "f64");
               if (sat) x = x > 0 ? std::min(x, 1.0L) : 0;
               const Bits result = to_float_type(x, to, mode);
               if (ftz && to == "f32") return bits_of(static_cast<float>(flushed(number(result, "f32"))));
               return result;
             });
}

TEST(Convert, IntegersToIntegers) {
  for (const std::string to : kIntegers) {
    for (const std::string from : kIntegers) {
      check_cvt("", "", FE_TONEAREST, to, from);
      check_cvt("", ".sat", FE_TONEAREST, to, from);
    }
  }
  // Wider registers than the types: the rest is cut off, the result extended to the register.
  check1("cvt.s32.s8", "b32", "b32",
         [](Bits a) { return static_cast<Bits>(int32_t{static_cast<int8_t>(a)}); });
  check1("cvt.s8.s32", "b32", "b32",
         [](Bits a) { return static_cast<Bits>(int32_t{static_cast<int8_t>(a)}); });
  check1("cvt.u16.u64", "b64", "b64", [](Bits a) { return a & 0xffff; });
}

TEST(Convert, FloatsToIntegers) {
  for (const auto& [name, mode] : kIntegral) {
    for (const std::string to : kIntegers) {
      for (const std::string modes : {"", ".ftz", ".sat", ".ftz.sat"})
        check_cvt(name, modes, mode, to, "f32");
      for (const std::string from : {"f16", "f64"}) {
        check_cvt(name, "", mode, to, from);
        check_cvt(name, ".sat", mode, to, from);
      }
    }
  }
}

TEST(Convert, IntegersToFloats) {
  for (const auto& [name, mode] : kRoundings) {
    for (const std::string from : kIntegers) {
      check_cvt(name, "", mode, "f32", from);
      check_cvt(name, "", mode, "f64", from);
      if (width_of(from) < 64) check_cvt(name, "", mode, "f16", from);
    }
  }
}

TEST(Convert, FloatsToFloats) {
  for (const std::string modes : {"", ".ftz", ".sat", ".ftz.sat"}) {
    for (const auto& [name, mode] : kRoundings) {
      check_cvt(name, modes, mode, "f32", "f64");
      check_cvt(name, modes, mode, "f16", "f32");
    }
    for (const auto& [name, mode] : kIntegral) check_cvt(name, modes, mode, "f32", "f32");
    check_cvt("", modes, FE_TONEAREST, "f64", "f32");
    if (modes.empty()) continue;
    check_cvt("", modes, FE_TONEAREST, "f32", "f32");
    check_cvt("", modes, FE_TONEAREST, "f32", "f16");
  }
  for (const std::string modes : {"", ".sat"}) {
    for (const auto& [name, mode] : kRoundings) check_cvt(name, modes, mode, "f16", "f64");
    for (const auto& [name, mode] : kIntegral) {
      check_cvt(name, modes, mode, "f16", "f16");
      check_cvt(name, modes, mode, "f64", "f64");
    }
    check_cvt("", modes, FE_TONEAREST, "f64", "f16");
  }
}

// 16-bit arithmetic: exact in fp64 (a sum or product of two such numbers is), then rounded once. fma: long double holds
// the exact result of most operands; the rest, where exponents lie too far apart, is left out.
template <class Value, class Round>
void check_small(const std::string& type, Value value, Round round) {
  const std::vector<std::string> two{type, type}, three{type, type, type};
  const auto result = [&](double x) { return x != x ? Bits{0x7fff} : round(x); };
  for (const std::string rounding : {"", "rn."}) {
    const auto check = [&](const std::string& name, auto exact) {
      expect_ptx(name + rounding + type + " %d, %a, %b;", type, two, interesting(two), [&](Values v) {
        return result(exact(static_cast<double>(value(v[0])), static_cast<double>(value(v[1]))));
      });
    };
    check("add.", [](double a, double b) { return a + b; });
    check("sub.", [](double a, double b) { return a - b; });
    check("mul.", [](double a, double b) { return a * b; });
  }
  expect_ptx("neg." + type + " %d, %a;", type, {type}, interesting({type}),
             [](Values v) { return v[0] ^ 0x8000; });
  expect_ptx("abs." + type + " %d, %a;", type, {type}, interesting({type}),
             [](Values v) { return v[0] & 0x7fff; });
  for (const bool minimum : {true, false}) {
    expect_ptx((minimum ? "min." : "max.") + type + " %d, %a, %b;", type, two, interesting(two),
               [&](Values v) {
                 const float a = value(v[0]), b = value(v[1]);
                 if (a != a) return b != b ? Bits{0x7fff} : v[1];
                 if (b != b) return v[0];
                 if (a == b) return minimum == static_cast<bool>(std::signbit(a)) ? v[0] : v[1];
                 return (a < b) == minimum ? v[0] : v[1];
               });
    expect_ptx((minimum ? "min.NaN." : "max.NaN.") + type + " %d, %a, %b;", type, two, interesting(two),
               [&](Values v) {
                 const float a = value(v[0]), b = value(v[1]);
                 if (a != a || b != b) return Bits{0x7fff};
                 if (a == b) return minimum == static_cast<bool>(std::signbit(a)) ? v[0] : v[1];
                 return (a < b) == minimum ? v[0] : v[1];
               });
  }
  auto columns = interesting(three);
  for (size_t i = 0; i < columns[0].size(); ++i) {
    const double product =
        std::fabs(static_cast<double>(value(columns[0][i])) * static_cast<double>(value(columns[1][i])));
    const double c = std::fabs(static_cast<double>(value(columns[2][i])));
    const double ratio = product / c;
    if (!(ratio > 0x1p-30 && ratio < 0x1p30)) columns[2][i] = 0;
  }
  const auto fused = [&](Values v) {
    return result(std::fma(static_cast<double>(value(v[0])), static_cast<double>(value(v[1])),
                           static_cast<double>(value(v[2]))));
  };
  expect_ptx("fma.rn." + type + " %d, %a, %b, %c;", type, three, columns, fused);
  expect_ptx("fma.rn.relu." + type + " %d, %a, %b, %c;", type, three, columns,
             [&](Values v) { return fused(v) & 0x8000 ? 0 : fused(v); });
  // The ISA promises 2^-10.987 of tanh and 2^-9.9 of ex2 in f16, 2^-8 and 2^-7 in bf16; here they are rounded correctly.
  expect_ptx("tanh.approx." + type + " %d, %a;", type, {type}, interesting({type}),
             [&](Values v) { return result(std::tanh(static_cast<double>(value(v[0])))); });
  const bool brain = type == "bf16";  // whose ex2 is always .ftz
  expect_ptx((brain ? "ex2.approx.ftz." : "ex2.approx.") + type + " %d, %a;", type, {type},
             interesting({type}), [&](Values v) {
               const Bits power = result(std::exp2(static_cast<double>(value(v[0]))));
               return brain && power < 0x80 ? 0 : power;
             });
}

TEST(Small, Half) {
  check_small("f16", half_value, [](double x) { return Bits{raw(__double2half(x))}; });
}

TEST(Small, Brain) {
  check_small("bf16", brain_value, [](double x) { return Bits{raw(__double2bfloat16(x))}; });
}

TEST(Small, PairsAreTwoNumbers) {
  const std::vector<std::string> two{"u32", "u32"}, three{"u32", "u32", "u32"};
  for (const std::string type : {"f16", "bf16"}) {
    const auto columns = interesting(three);
    const auto split = [&](const std::string& instruction, size_t operands) {
      std::vector<Column> low(operands), high(operands);
      for (size_t o = 0; o < operands; ++o) {
        for (const Bits pair : columns[o]) low[o].push_back(pair & 0xffff), high[o].push_back(pair >> 16);
      }
      const std::vector<std::string> single(operands, type), pairs(operands, "u32");
      const std::string end = operands == 3   ? " %d, %a, %b, %c;"
                              : operands == 2 ? " %d, %a, %b;"
                                              : " %d, %a;";
      const Column lows = run_ptx(instruction + "." + type + end, type, single, low);
      const Column highs = run_ptx(instruction + "." + type + end, type, single, high);
      const Column both = run_ptx(instruction + "." + type + "x2" + end, "b32", pairs,
                                  {columns.begin(), columns.begin() + static_cast<long>(operands)});
      for (size_t i = 0; i < both.size(); ++i) ASSERT_EQ(both[i], highs[i] << 16 | lows[i]) << instruction;
    };
    for (const std::string name :
         {"add", "sub", "mul", "add.rn", "sub.rn", "mul.rn", "min", "max", "min.NaN", "max.NaN"})
      split(name, 2);
    for (const std::string name : {"fma.rn", "fma.rn.relu"}) split(name, 3);
    for (const std::string name : {"neg", "abs", "tanh.approx"}) split(name, 1);
    split(type == "f16" ? "ex2.approx" : "ex2.approx.ftz", 1);
  }
}

}  // namespace

}  // namespace kiln::emulator::testing
