// Floating-point instructions against their description in the PTX ISA: IEEE 754 where it promises that, rounding modes,
// .ftz, .sat, NaN.
#include <gtest/gtest.h>

#include <bit>
#include <cfenv>
#include <cmath>
#include <limits>

#include "tests/cuda_emulator/tests/ptx_harness.h"

namespace kiln::emulator::testing {

namespace {

float flushed(float x) {
  return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x;
}
float saturated(float x) {
  return x != x || x <= 0 ? 0.0f : x > 1 ? 1.0f : x;
}

// The result that the processor gives in a rounding mode; volatile keeps the compiler from computing it beforehand.
template <class F>
auto rounded(int mode, F f) {
  std::fesetround(mode);
  volatile auto result = f();
  std::fesetround(FE_TONEAREST);
  return static_cast<decltype(f())>(result);
}

struct Mode {
  const char* name;
  int mode;
};
constexpr Mode kModes[] = {
    {"rn", FE_TONEAREST}, {"rz", FE_TOWARDZERO}, {"rm", FE_DOWNWARD}, {"rp", FE_UPWARD}};

// What .ftz makes of operands and .ftz and .sat of a result.
struct Ends {
  bool flushes, saturates;
  float in(Bits bits) const { return flushes ? flushed(f32(bits)) : f32(bits); }
  Bits out(float x) const {
    if (flushes) x = flushed(x);
    return bits_of(saturates ? saturated(x) : x);
  }
};

// Instructions of one to three operands, with everything that may stand behind their name.
template <class F>
void check32(const std::string& name, size_t operands, bool saturates, bool needs_rounding, F exact) {
  const std::vector<std::string> types(operands, "f32");
  const std::vector<Column> columns = interesting(types);
  const std::string after = operands == 1   ? ".f32 %d, %a;"
                            : operands == 2 ? ".f32 %d, %a, %b;"
                                            : ".f32 %d, %a, %b, %c;";
  const auto check = [&](const std::string& rounding, int mode) {
    for (const Ends& ends : {Ends{false, false}, Ends{true, false}, Ends{false, true}, Ends{true, true}}) {
      if (ends.saturates && !saturates) continue;
      expect_ptx(name + rounding + (ends.flushes ? ".ftz" : "") + (ends.saturates ? ".sat" : "") + after,
                 "b32", types, columns, [&](Values v) {
                   volatile float x[3] = {};
                   for (size_t i = 0; i < operands; ++i) x[i] = ends.in(v[i]);
                   return ends.out(rounded(mode, [&] { return exact(x[0], x[1], x[2]); }));
                 });
    }
  };
  if (!needs_rounding) check("", FE_TONEAREST);
  for (const auto& [rounding, mode] : kModes) check(std::string(".") + rounding, mode);
}

TEST(Float, ArithmeticInAllModes) {
  check32("add", 2, true, false, [](float a, float b, float) { return a + b; });
  check32("sub", 2, true, false, [](float a, float b, float) { return a - b; });
  check32("mul", 2, true, false, [](float a, float b, float) { return a * b; });
  check32("fma", 3, true, true, [](float a, float b, float c) { return std::fma(a, b, c); });
  check32("mad", 3, true, true, [](float a, float b, float c) { return std::fma(a, b, c); });
  check32("div", 2, false, true, [](float a, float b, float) { return a / b; });
  check32("rcp", 1, false, true, [](float a, float, float) { return 1.0f / a; });
  check32("sqrt", 1, false, true, [](float a, float, float) { return std::sqrt(a); });
}

TEST(Float, ExtremesPreferNumbersToNan) {
  const auto two = interesting({"f32", "f32"});
  const std::vector<std::string> types{"f32", "f32"};
  const auto pick = [](bool minimum) {
    return [minimum](Values v) {
      const float a = f32(v[0]), b = f32(v[1]);
      if (a != a) return bits_of(b);
      if (b != b) return bits_of(a);
      if (a == b) return minimum == static_cast<bool>(std::signbit(a)) ? v[0] : v[1];
      return (a < b) == minimum ? v[0] : v[1];
    };
  };
  expect_ptx("min.f32 %d, %a, %b;", "b32", types, two, pick(true));
  expect_ptx("max.f32 %d, %a, %b;", "b32", types, two, pick(false));
  expect_ptx("max.NaN.f32 %d, %a, %b;", "b32", types, two, [&](Values v) {
    return f32(v[0]) != f32(v[0]) || f32(v[1]) != f32(v[1]) ? kNan32 : pick(false)(v);
  });
  expect_ptx("min.NaN.f32 %d, %a, %b;", "b32", types, two, [&](Values v) {
    return f32(v[0]) != f32(v[0]) || f32(v[1]) != f32(v[1]) ? kNan32 : pick(true)(v);
  });
  for (const bool minimum : {true, false}) {
    const std::string name = minimum ? "min.ftz" : "max.ftz";
    const auto of_flushed = [&](Values v) {
      return pick(minimum)({bits_of(flushed(f32(v[0]))), bits_of(flushed(f32(v[1])))});
    };
    expect_ptx(name + ".f32 %d, %a, %b;", "b32", types, two, of_flushed);
    expect_ptx(name + ".NaN.f32 %d, %a, %b;", "b32", types, two, [&](Values v) {
      return f32(v[0]) != f32(v[0]) || f32(v[1]) != f32(v[1]) ? kNan32 : of_flushed(v);
    });
  }
}

TEST(Float, SignsAreBits) {
  const auto two = interesting({"f32", "f32"});
  expect_ptx("neg.f32 %d, %a;", "b32", {"f32"}, {two[0]}, [](Values v) { return v[0] ^ 0x80000000; });
  expect_ptx("abs.f32 %d, %a;", "b32", {"f32"}, {two[0]}, [](Values v) { return v[0] & 0x7fffffff; });
  expect_ptx("copysign.f32 %d, %a, %b;", "b32", {"f32", "f32"}, two,
             [](Values v) { return (v[0] & 0x80000000) | (v[1] & 0x7fffffff); });
  expect_ptx("neg.ftz.f32 %d, %a;", "b32", {"f32"}, {two[0]},
             [](Values v) { return std::bit_cast<uint32_t>(flushed(f32(v[0]))) ^ Bits { 0x80000000 }; });
  expect_ptx("abs.ftz.f32 %d, %a;", "b32", {"f32"}, {two[0]},
             [](Values v) { return std::bit_cast<uint32_t>(flushed(f32(v[0]))) & Bits{0x7fffffff}; });
  const auto doubles = interesting({"f64"});
  expect_ptx("copysign.f64 %d, %a, %b;", "b64", {"f64", "f64"}, interesting({"f64", "f64"}),
             [](Values v) { return (v[0] & 0x8000000000000000) | (v[1] & 0x7fffffffffffffff); });
  expect_ptx("neg.f64 %d, %a;", "b64", {"f64"}, doubles, [](Values v) { return v[0] ^ 0x8000000000000000; });
  expect_ptx("abs.f64 %d, %a;", "b64", {"f64"}, doubles, [](Values v) { return v[0] & 0x7fffffffffffffff; });
}

// Of the approximations the ISA promises a maximal error; the emulator gives what the C library gives, within it.
TEST(Float, Approximations) {
  const auto column = interesting({"f32"});
  const auto check = [&](const std::string& instruction, auto exact, double relative, double absolute) {
    const Column results = run_ptx(instruction + ".f32 %d, %a;", "b32", {"f32"}, column);
    for (size_t i = 0; i < results.size(); ++i) {
      const bool flushes = instruction.ends_with("ftz");
      const float operand = flushes ? flushed(f32(column[0][i])) : f32(column[0][i]);
      const double x = static_cast<double>(operand), wanted = exact(x);
      const double got = static_cast<double>(f32(results[i]));
      if (wanted != wanted) {
        EXPECT_EQ(results[i], kNan32) << instruction << " of " << x;
      } else if (std::fabs(wanted) < 1e38 && std::fabs(wanted) > 1.2e-38) {
        EXPECT_NEAR(got, wanted, std::fabs(wanted) * relative + absolute) << instruction << " of " << x;
      }
    }
  };
  for (const std::string modes : {".approx", ".approx.ftz"}) {
    const auto both = [&](const std::string& name, auto exact, double relative, double absolute) {
      check(name + modes, exact, relative, absolute);
    };
    both(
        "ex2", [](double x) { return std::exp2(x); }, 0x1p-22, 0);
    both(
        "lg2", [](double x) { return std::log2(x); }, 0x1p-22, 0x1p-22);
    both(
        "rcp", [](double x) { return 1 / x; }, 0x1p-23, 0);
    both(
        "sqrt", [](double x) { return std::sqrt(x); }, 0x1p-23, 0);
    both(
        "rsqrt", [](double x) { return 1 / std::sqrt(x); }, 0x1p-22, 0);
  }
  check(
      "tanh.approx", [](double x) { return std::tanh(x); }, 0x1p-11, 0);
  // Only in [-pi, pi] is an error promised, of 2^-21 at most.
  for (const char* name : {"sin.approx", "cos.approx", "sin.approx.ftz", "cos.approx.ftz"}) {
    check(
        name,
        [name](double x) { return std::fabs(x) > 3.1 ? 0
                                  : name[0] == 's'   ? std::sin(x)
                                                     : std::cos(x); }, 0,
        0x1p-20);
  }
}

TEST(Float, ApproximateDivisionByHugeNumbersIsZero) {
  const std::vector<std::string> types{"f32", "f32"};
  const auto two = interesting(types);
  for (const bool flushes : {false, true}) {
    const Ends ends{flushes, false};
    const std::string after = flushes ? ".ftz.f32 %d, %a, %b;" : ".f32 %d, %a, %b;";
    expect_ptx("div.approx" + after, "b32", types, two, [&](Values v) {
      const float a = ends.in(v[0]), b = ends.in(v[1]);
      if (std::fabs(b) > 0x1p126f && !std::isinf(b))
        return std::isinf(a) || a != a ? kNan32 : bits_of(std::signbit(a) == std::signbit(b) ? 0.0f : -0.0f);
      return ends.out(a / b);
    });
    expect_ptx("div.full" + after, "b32", types, two,
               [&](Values v) { return ends.out(ends.in(v[0]) / ends.in(v[1])); });
  }
}

// Small numbers as the C library's fp16 and NVIDIA's bf16 see them: every one is an fp32 number.
double number_of(Bits bits, const std::string& type) {
  if (type == "f32") return static_cast<double>(f32(bits));
  if (type == "f64") return f64(bits);
  if (type == "bf16") return static_cast<double>(f32(bits << 16));
  const int exponent = static_cast<int>(bits >> 10 & 31);
  const double fraction = static_cast<double>(bits & 1023), sign = bits & 0x8000 ? -1 : 1;
  if (exponent == 31) return fraction == 0.0 ? sign * HUGE_VAL : std::nan("");
  return sign * (exponent == 0 ? fraction * 0x1p-24 : std::ldexp(1024 + fraction, exponent - 25));
}

// One comparison of all floating-point types by setp, alone and with a third predicate, and by set.
template <class F>
void check_order(const std::string& how, F ordered, bool with_nan) {
  for (const std::string type : {"f32", "ftz.f32", "f64", "f16", "bf16"}) {
    const bool flushes = type == "ftz.f32";
    const std::string as = flushes ? "f32" : type;
    const std::vector<std::string> types{as, as, "pred"};
    const auto columns = interesting(types);
    const Reference expected = [&](Values v) {
      const auto value = [&](Bits bits) {
        return flushes ? static_cast<double>(flushed(f32(bits))) : number_of(bits, as);
      };
      const double a = value(v[0]), b = value(v[1]);
      return Bits{std::isunordered(a, b) ? with_nan : ordered(a, b)};
    };
    expect_ptx("setp." + how + "." + type + " %d, %a, %b;", "pred", types, columns, expected);
    expect_ptx("setp." + how + ".and." + type + " %d, %a, %b, %c;", "pred", types, columns,
               [&](Values v) { return expected(v) & v[2]; });
    expect_ptx("setp." + how + ".or." + type + " %d, %a, %b, %c;", "pred", types, columns,
               [&](Values v) { return expected(v) | v[2]; });
    expect_ptx("setp." + how + ".xor." + type + " %d, %a, %b, !%c;", "pred", types, columns,
               [&](Values v) { return expected(v) ^ v[2] ^ 1; });
    if (flushes) continue;
    for (const std::string result : {"u32", "s32", "f32"}) {
      expect_ptx("set." + how + "." + result + "." + type + " %d, %a, %b;", "b32", types, columns,
                 [&](Values v) {
                   return !expected(v) ? 0 : result == "f32" ? Bits{0x3f800000} : 0xffffffff;
                 });
    }
  }
}

TEST(Float, Comparisons) {
  const auto eq = [](double a, double b) { return a == b; };
  const auto ne = [](double a, double b) { return a != b; };
  const auto lt = [](double a, double b) { return a < b; };
  const auto le = [](double a, double b) { return a <= b; };
  const auto gt = [](double a, double b) { return a > b; };
  const auto ge = [](double a, double b) { return a >= b; };
  check_order("eq", eq, false);
  check_order("ne", ne, false);
  check_order("lt", lt, false);
  check_order("le", le, false);
  check_order("gt", gt, false);
  check_order("ge", ge, false);
  check_order("equ", eq, true);
  check_order("neu", ne, true);
  check_order("ltu", lt, true);
  check_order("leu", le, true);
  check_order("gtu", gt, true);
  check_order("geu", ge, true);
  check_order(
      "num", [](double, double) { return true; }, false);
  check_order(
      "nan", [](double, double) { return false; }, true);
}

TEST(Float, Kinds) {
  const auto singles = interesting({"f32"}), doubles = interesting({"f64"});
  const auto check = [&](const std::string& how, auto expected) {
    expect_ptx("testp." + how + ".f32 %d, %a;", "pred", {"f32"}, singles,
               [&](Values v) { return Bits{expected(f32(v[0]))}; });
    expect_ptx("testp." + how + ".f64 %d, %a;", "pred", {"f64"}, doubles,
               [&](Values v) { return Bits{expected(f64(v[0]))}; });
  };
  check("finite", [](auto x) { return std::isfinite(x); });
  check("infinite", [](auto x) { return std::isinf(x); });
  check("number", [](auto x) { return x == x; });
  check("notanumber", [](auto x) { return x != x; });
  check("normal", [](auto x) { return std::isnormal(x) || x == 0; });  // "zero [is] considered normal"
  check("subnormal", [](auto x) { return x != 0 && std::fabs(x) < std::numeric_limits<decltype(x)>::min(); });
}

TEST(Double, Arithmetic) {
  const auto check = [](const std::string& instruction, size_t operands, int mode, auto f) {
    const std::vector<std::string> types(operands, "f64");
    const std::string after = operands == 1   ? ".f64 %d, %a;"
                              : operands == 2 ? ".f64 %d, %a, %b;"
                                              : ".f64 %d, %a, %b, %c;";
    expect_ptx(instruction + after, "b64", types, interesting(types), [&](Values v) {
      volatile double x[3] = {};
      for (size_t i = 0; i < operands; ++i) x[i] = f64(v[i]);
      return bits_of(rounded(mode, [&] { return f(x[0], x[1], x[2]); }));
    });
  };
  const auto sum = [](double a, double b, double) { return a + b; };
  const auto difference = [](double a, double b, double) { return a - b; };
  const auto product = [](double a, double b, double) { return a * b; };
  for (const auto& [name, mode] : kModes) {
    const std::string rounding = std::string(".") + name;
    check("add" + rounding, 2, mode, sum);
    check("sub" + rounding, 2, mode, difference);
    check("mul" + rounding, 2, mode, product);
    check("div" + rounding, 2, mode, [](double a, double b, double) { return a / b; });
    check("rcp" + rounding, 1, mode, [](double a, double, double) { return 1 / a; });
    check("sqrt" + rounding, 1, mode, [](double a, double, double) { return std::sqrt(a); });
    check("fma" + rounding, 3, mode, [](double a, double b, double c) { return std::fma(a, b, c); });
    check("mad" + rounding, 3, mode, [](double a, double b, double c) { return std::fma(a, b, c); });
  }
  check("add", 2, FE_TONEAREST, sum);
  check("sub", 2, FE_TONEAREST, difference);
  check("mul", 2, FE_TONEAREST, product);
  check("rsqrt.approx", 1, FE_TONEAREST, [](double a, double, double) { return 1 / std::sqrt(a); });
}

TEST(Double, ExtremesPreferNumbersToNan) {
  for (const bool minimum : {true, false}) {
    expect_ptx(minimum ? "min.f64 %d, %a, %b;" : "max.f64 %d, %a, %b;", "b64", {"f64", "f64"},
               interesting({"f64", "f64"}), [&](Values v) {
                 const double a = f64(v[0]), b = f64(v[1]);
                 if (a != a) return v[1];
                 if (b != b) return v[0];
                 if (a == b) return minimum == static_cast<bool>(std::signbit(a)) ? v[0] : v[1];
                 return (a < b) == minimum ? v[0] : v[1];
               });
  }
}

}  // namespace

}  // namespace kiln::emulator::testing
