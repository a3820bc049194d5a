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
  check1("cvt.rn.f16.f32", "f16", "f32", [](Bits a) { return Bits{raw(__float2half_rn(f32(a)))}; });
  check1("cvt.rz.f16.f32", "f16", "f32", [](Bits a) { return Bits{raw(__float2half_rz(f32(a)))}; });
  check1("cvt.rn.bf16.f32", "bf16", "f32", [](Bits a) { return Bits{raw(__float2bfloat16_rn(f32(a)))}; });
  check1("cvt.rz.bf16.f32", "bf16", "f32", [](Bits a) { return Bits{raw(__float2bfloat16_rz(f32(a)))}; });
  check1("cvt.rn.f16.f64", "f16", "f64", [](Bits a) { return Bits{raw(__double2half(f64(a)))}; });
  check1("cvt.rn.relu.bf16.f32", "bf16", "f32", [](Bits a) {
    const Bits result = raw(__float2bfloat16_rn(f32(a)));
    return f32(a) != f32(a) || (result & 0x8000) == 0 ? result : 0;
  });
  const std::vector<std::string> two{"f32", "f32"};
  expect_ptx("cvt.rn.bf16x2.f32 %d, %a, %b;", "b32", two, interesting(two), [](Values v) {
    return Bits{raw(__float2bfloat16_rn(f32(v[0])))} << 16 | raw(__float2bfloat16_rn(f32(v[1])));
  });
  expect_ptx("cvt.rz.bf16x2.f32 %d, %a, %b;", "b32", two, interesting(two), [](Values v) {
    return Bits{raw(__float2bfloat16_rz(f32(v[0])))} << 16 | raw(__float2bfloat16_rz(f32(v[1])));
  });
  expect_ptx("cvt.rn.f16x2.f32 %d, %a, %b;", "b32", two, interesting(two), [](Values v) {
    return Bits{raw(__float2half_rn(f32(v[0])))} << 16 | raw(__float2half_rn(f32(v[1])));
  });
}

TEST(Convert, SmallFloatsToFloats) {
  check1("cvt.f32.f16", "f32", "f16", [](Bits a) {
    const float x = half_value(a);
    return x != x ? Bits{std::bit_cast<uint32_t>(x)} : bits_of(x);
  });
  check1("cvt.f32.bf16", "f32", "bf16", [](Bits a) { return Bits{std::bit_cast<uint32_t>(brain_value(a))}; });
}

TEST(Convert, BetweenFloatAndDouble) {
  check1("cvt.f64.f32", "f64", "f32",
         [](Bits a) { return std::bit_cast<Bits>(static_cast<double>(f32(a))); });
  for (const auto& [name, mode] : {std::pair("rn", FE_TONEAREST), std::pair("rz", FE_TOWARDZERO),
                                   std::pair("rm", FE_DOWNWARD), std::pair("rp", FE_UPWARD)}) {
    check1(std::string("cvt.") + name + ".f32.f64", "f32", "f64", [mode = mode](Bits a) {
      std::fesetround(mode);
      volatile double x = f64(a);
      volatile float result = static_cast<float>(x);
      std::fesetround(FE_TONEAREST);
      return bits_of(result);
    });
  }
  check1("cvt.sat.f32.f32", "f32", "f32", [](Bits a) {
    const float x = f32(a);
    return bits_of(x != x || x <= 0 ? 0.0f : x > 1 ? 1.0f : x);
  });
  check1("cvt.ftz.f32.f32", "f32", "f32", [](Bits a) {
    return bits_of(std::fabs(f32(a)) < 0x1p-126f ? std::copysign(0.0f, f32(a)) : f32(a));
  });
  check1("cvt.rna.tf32.f32", "b32", "f32",
         [](Bits a) {  // ties away from zero, at the 11th bit of the significand
           if (f32(a) != f32(a)) return Bits{0x7fffffff};
           return (a + 0x1000) & 0xffffe000;
         });
}

TEST(Convert, ToIntegralFloats) {
  check1("cvt.rni.f32.f32", "f32", "f32", [](Bits a) { return bits_of(std::nearbyint(f32(a))); });
  check1("cvt.rzi.f32.f32", "f32", "f32", [](Bits a) { return bits_of(std::trunc(f32(a))); });
  check1("cvt.rmi.f32.f32", "f32", "f32", [](Bits a) { return bits_of(std::floor(f32(a))); });
  check1("cvt.rpi.f32.f32", "f32", "f32", [](Bits a) { return bits_of(std::ceil(f32(a))); });
}

// Out of range to the nearest limit; NaN to zero, to the sign bit alone where 64 bits or fp64 are involved.
template <class T>
Bits to_integer(long double x, bool wide) {
  using Limits = std::numeric_limits<T>;
  if (x != x) return wide ? Bits{1} << (8 * sizeof(T) - 1) : 0;
  if (x <= static_cast<long double>(Limits::min())) return static_cast<Bits>(Limits::min());
  if (x >= static_cast<long double>(Limits::max())) return static_cast<Bits>(Limits::max());
  return static_cast<Bits>(static_cast<T>(x));
}

TEST(Convert, FloatsToIntegers) {
  const auto check = [](auto zero, const std::string& type) {
    using T = decltype(zero);
    const bool wide = sizeof(T) == 8;
    check1("cvt.rzi." + type + ".f32", type, "f32",
           [&](Bits a) { return to_integer<T>(std::trunc(static_cast<long double>(f32(a))), wide); });
    check1("cvt.rni." + type + ".f32", type, "f32",
           [&](Bits a) { return to_integer<T>(std::nearbyint(static_cast<long double>(f32(a))), wide); });
    check1("cvt.rmi." + type + ".f32", type, "f32",
           [&](Bits a) { return to_integer<T>(std::floor(static_cast<long double>(f32(a))), wide); });
    check1("cvt.rpi." + type + ".f32", type, "f32",
           [&](Bits a) { return to_integer<T>(std::ceil(static_cast<long double>(f32(a))), wide); });
    check1("cvt.rzi." + type + ".f64", type, "f64",
           [&](Bits a) { return to_integer<T>(std::trunc(static_cast<long double>(f64(a))), true); });
  };
  check(int16_t{}, "s16");
  check(uint16_t{}, "u16");
  check(int32_t{}, "s32");
  check(uint32_t{}, "u32");
  check(int64_t{}, "s64");
  check(uint64_t{}, "u64");
}

TEST(Convert, IntegersToFloats) {
  for (const auto& [name, mode] : {std::pair("rn", FE_TONEAREST), std::pair("rz", FE_TOWARDZERO),
                                   std::pair("rm", FE_DOWNWARD), std::pair("rp", FE_UPWARD)}) {
    const auto check = [&, mode = mode](auto zero, const std::string& type) {
      using T = decltype(zero);
      check1(std::string("cvt.") + name + ".f32." + type, "f32", type, [mode](Bits a) {
        std::fesetround(mode);
        volatile T x = static_cast<T>(a);
        volatile float result = static_cast<float>(x);
        std::fesetround(FE_TONEAREST);
        return bits_of(result);
      });
      check1(std::string("cvt.") + name + ".f64." + type, "f64", type, [mode](Bits a) {
        std::fesetround(mode);
        volatile T x = static_cast<T>(a);
        volatile double result = static_cast<double>(x);
        std::fesetround(FE_TONEAREST);
        return std::bit_cast<Bits>(static_cast<double>(result));
      });
    };
    check(int16_t{}, "s16");
    check(int32_t{}, "s32");
    check(uint32_t{}, "u32");
    check(int64_t{}, "s64");
    check(uint64_t{}, "u64");
  }
}

TEST(Convert, IntegersToIntegers) {
  check1("cvt.s64.s32", "s64", "s32",
         [](Bits a) { return static_cast<Bits>(int64_t{static_cast<int32_t>(a)}); });
  check1("cvt.u64.u32", "u64", "u32", [](Bits a) { return a; });
  check1("cvt.u32.u64", "u32", "u64", [](Bits a) { return a & 0xffffffff; });
  check1("cvt.s32.s16", "s32", "s16",
         [](Bits a) { return static_cast<Bits>(int32_t{static_cast<int16_t>(a)}); });
  check1("cvt.u16.u32", "u16", "u32", [](Bits a) { return a & 0xffff; });
  // Types narrower than their registers: the rest is cut off, the result extended to the register.
  check1("cvt.s32.s8", "b32", "b32",
         [](Bits a) { return static_cast<Bits>(int32_t{static_cast<int8_t>(a)}); });
  check1("cvt.u32.u8", "b32", "b16", [](Bits a) { return a & 0xff; });
  check1("cvt.s8.s32", "b32", "b32",
         [](Bits a) { return static_cast<Bits>(int32_t{static_cast<int8_t>(a)}); });
  check1("cvt.u8.u32", "b16", "b32", [](Bits a) { return a & 0xff; });
  check1("cvt.sat.s16.s32", "s16", "s32", [](Bits a) {
    const int32_t x = static_cast<int32_t>(a);
    return static_cast<Bits>(x > 32767 ? 32767 : x < -32768 ? -32768 : x);
  });
  check1("cvt.sat.u8.s32", "b32", "s32", [](Bits a) {
    const int32_t x = static_cast<int32_t>(a);
    return static_cast<Bits>(x > 255 ? 255 : x < 0 ? 0 : x);
  });
}

// 16-bit arithmetic: exact in fp64 (a sum or product of two such numbers is), then rounded once. fma: long double holds
// the exact result of most operands; the rest, where exponents lie too far apart, is left out.
template <class Value, class Round>
void check_small(const std::string& type, Value value, Round round) {
  const std::vector<std::string> two{type, type}, three{type, type, type};
  const auto result = [&](double x) { return x != x ? Bits{0x7fff} : round(x); };
  expect_ptx("add." + type + " %d, %a, %b;", type, two, interesting(two), [&](Values v) {
    return result(static_cast<double>(value(v[0])) + static_cast<double>(value(v[1])));
  });
  expect_ptx("sub." + type + " %d, %a, %b;", type, two, interesting(two), [&](Values v) {
    return result(static_cast<double>(value(v[0])) - static_cast<double>(value(v[1])));
  });
  expect_ptx("mul." + type + " %d, %a, %b;", type, two, interesting(two), [&](Values v) {
    return result(static_cast<double>(value(v[0])) * static_cast<double>(value(v[1])));
  });
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
  }
  auto columns = interesting(three);
  for (size_t i = 0; i < columns[0].size(); ++i) {
    const double product =
        std::fabs(static_cast<double>(value(columns[0][i])) * static_cast<double>(value(columns[1][i])));
    const double c = std::fabs(static_cast<double>(value(columns[2][i])));
    const double ratio = product / c;
    if (!(ratio > 0x1p-30 && ratio < 0x1p30)) columns[2][i] = 0;
  }
  expect_ptx("fma.rn." + type + " %d, %a, %b, %c;", type, three, columns, [&](Values v) {
    return result(std::fma(static_cast<double>(value(v[0])), static_cast<double>(value(v[1])),
                           static_cast<double>(value(v[2]))));
  });
  expect_ptx("setp.lt." + type + " %d, %a, %b;", "pred", two, interesting(two),
             [&](Values v) { return Bits{value(v[0]) < value(v[1])}; });
  expect_ptx("setp.neu." + type + " %d, %a, %b;", "pred", two, interesting(two),
             [&](Values v) { return Bits{value(v[0]) != value(v[1])}; });
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
      const std::string end = operands == 3 ? " %d, %a, %b, %c;" : " %d, %a, %b;";
      const Column lows = run_ptx(instruction + "." + type + end, type, single, low);
      const Column highs = run_ptx(instruction + "." + type + end, type, single, high);
      const Column both = run_ptx(instruction + "." + type + "x2" + end, "b32", pairs,
                                  {columns.begin(), columns.begin() + static_cast<long>(operands)});
      for (size_t i = 0; i < both.size(); ++i) ASSERT_EQ(both[i], highs[i] << 16 | lows[i]) << instruction;
    };
    split("add", 2);
    split("mul", 2);
    split("max", 2);
    split("min.NaN", 2);
    split("fma.rn", 3);
    split("fma.rn.relu", 3);
  }
}

}  // namespace

}  // namespace kiln::emulator::testing
