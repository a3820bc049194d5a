// Floating-point instructions against their description in the PTX ISA: IEEE 754 where it promises that, rounding modes,
// .ftz, .sat, NaN.
#include <gtest/gtest.h>

#include <bit>
#include <cfenv>
#include <cmath>

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

TEST(Float, ArithmeticInAllRoundingModes) {
  const auto two = interesting({"f32", "f32"});
  const auto three = interesting({"f32", "f32", "f32"});
  for (const auto& [name, mode] : kModes) {
    const auto check = [&, mode = mode](const std::string& instruction, auto f) {
      expect_ptx(instruction + "." + name + ".f32 %d, %a, %b;", "b32", {"f32", "f32"}, two, [&](Values v) {
        volatile float a = f32(v[0]), b = f32(v[1]);
        return bits_of(rounded(mode, [&] { return f(a, b); }));
      });
    };
    check("add", [](float a, float b) { return a + b; });
    check("sub", [](float a, float b) { return a - b; });
    check("mul", [](float a, float b) { return a * b; });
    check("div", [](float a, float b) { return a / b; });
    expect_ptx(std::string("fma.") + name + ".f32 %d, %a, %b, %c;", "b32", {"f32", "f32", "f32"}, three,
               [mode = mode](Values v) {
                 volatile float a = f32(v[0]), b = f32(v[1]), c = f32(v[2]);
                 return bits_of(rounded(mode, [&] { return std::fma(a, b, c); }));
               });
    expect_ptx(std::string("sqrt.") + name + ".f32 %d, %a;", "b32", {"f32"}, {two[0]},
               [mode = mode](Values v) {
                 volatile float a = f32(v[0]);
                 return bits_of(rounded(mode, [&] { return std::sqrt(a); }));
               });
    expect_ptx(std::string("rcp.") + name + ".f32 %d, %a;", "b32", {"f32"}, {two[0]},
               [mode = mode](Values v) {
                 volatile float a = f32(v[0]);
                 return bits_of(rounded(mode, [&] { return 1.0f / a; }));
               });
  }
}

TEST(Float, FlushAndSaturate) {
  const auto two = interesting({"f32", "f32"});
  const auto three = interesting({"f32", "f32", "f32"});
  const std::vector<std::string> types{"f32", "f32"};
  expect_ptx("add.ftz.f32 %d, %a, %b;", "b32", types, two,
             [](Values v) { return bits_of(flushed(flushed(f32(v[0])) + flushed(f32(v[1])))); });
  expect_ptx("mul.ftz.f32 %d, %a, %b;", "b32", types, two,
             [](Values v) { return bits_of(flushed(flushed(f32(v[0])) * flushed(f32(v[1])))); });
  expect_ptx("add.sat.f32 %d, %a, %b;", "b32", types, two,
             [](Values v) { return bits_of(saturated(f32(v[0]) + f32(v[1]))); });
  expect_ptx("mul.ftz.sat.f32 %d, %a, %b;", "b32", types, two,
             [](Values v) { return bits_of(saturated(flushed(flushed(f32(v[0])) * flushed(f32(v[1]))))); });
  expect_ptx("fma.rn.sat.f32 %d, %a, %b, %c;", "b32", {"f32", "f32", "f32"}, three,
             [](Values v) { return bits_of(saturated(std::fma(f32(v[0]), f32(v[1]), f32(v[2])))); });
  expect_ptx("div.rn.ftz.f32 %d, %a, %b;", "b32", types, two,
             [](Values v) { return bits_of(flushed(flushed(f32(v[0])) / flushed(f32(v[1])))); });
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
}

TEST(Float, SignsAreBits) {
  const auto two = interesting({"f32", "f32"});
  expect_ptx("neg.f32 %d, %a;", "b32", {"f32"}, {two[0]}, [](Values v) { return v[0] ^ 0x80000000; });
  expect_ptx("abs.f32 %d, %a;", "b32", {"f32"}, {two[0]}, [](Values v) { return v[0] & 0x7fffffff; });
  expect_ptx("copysign.f32 %d, %a, %b;", "b32", {"f32", "f32"}, two,
             [](Values v) { return (v[0] & 0x80000000) | (v[1] & 0x7fffffff); });
  const auto doubles = interesting({"f64"});
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
  check(
      "ex2.approx", [](double x) { return std::exp2(x); }, 0x1p-22, 0);
  check(
      "ex2.approx.ftz", [](double x) { return std::exp2(x); }, 0x1p-22, 0);
  check(
      "lg2.approx", [](double x) { return std::log2(x); }, 0x1p-22, 0x1p-22);
  check(
      "rcp.approx.ftz", [](double x) { return 1 / x; }, 0x1p-23, 0);
  check(
      "sqrt.approx", [](double x) { return std::sqrt(x); }, 0x1p-23, 0);
  check(
      "rsqrt.approx", [](double x) { return 1 / std::sqrt(x); }, 0x1p-22, 0);
  check(
      "tanh.approx", [](double x) { return std::tanh(x); }, 0x1p-11, 0);
  // Only in [-pi, pi] is an error promised, of 2^-21 at most.
  for (const char* name : {"sin.approx", "cos.approx"}) {
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
  expect_ptx("div.approx.f32 %d, %a, %b;", "b32", types, two, [](Values v) {
    const float a = f32(v[0]), b = f32(v[1]);
    if (std::fabs(b) > 0x1p126f && !std::isinf(b))
      return std::isinf(a) || a != a
                 ? kNan32
                 : bits_of(a * b > 0 || (a * b == 0 && std::signbit(a) == std::signbit(b)) ? 0.0f : -0.0f);
    return bits_of(a / b);
  });
  expect_ptx("div.full.f32 %d, %a, %b;", "b32", types, two,
             [](Values v) { return bits_of(f32(v[0]) / f32(v[1])); });
}

TEST(Float, Comparisons) {
  const std::vector<std::string> types{"f32", "f32"};
  const auto two = interesting(types);
  const auto check = [&](const std::string& how, auto ordered, bool with_nan) {
    expect_ptx("setp." + how + ".f32 %d, %a, %b;", "pred", types, two, [&](Values v) {
      const float a = f32(v[0]), b = f32(v[1]);
      return Bits{std::isunordered(a, b) ? with_nan : ordered(a, b)};
    });
    expect_ptx("setp." + how + ".f64 %d, %a, %b;", "pred", {"f64", "f64"}, interesting({"f64", "f64"}),
               [&](Values v) {
                 const double a = f64(v[0]), b = f64(v[1]);
                 return Bits{std::isunordered(a, b) ? with_nan : ordered(a, b)};
               });
  };
  const auto eq = [](auto a, auto b) { return a == b; };
  const auto ne = [](auto a, auto b) { return a != b; };
  const auto lt = [](auto a, auto b) { return a < b; };
  const auto le = [](auto a, auto b) { return a <= b; };
  const auto gt = [](auto a, auto b) { return a > b; };
  const auto ge = [](auto a, auto b) { return a >= b; };
  check("eq", eq, false);
  check("ne", ne, false);
  check("lt", lt, false);
  check("le", le, false);
  check("gt", gt, false);
  check("ge", ge, false);
  check("equ", eq, true);
  check("neu", ne, true);
  check("ltu", lt, true);
  check("leu", le, true);
  check("gtu", gt, true);
  check("geu", ge, true);
  check(
      "num", [](auto, auto) { return true; }, false);
  check(
      "nan", [](auto, auto) { return false; }, true);
  expect_ptx("setp.eq.ftz.f32 %d, %a, %b;", "pred", types, two,
             [](Values v) { return Bits{flushed(f32(v[0])) == flushed(f32(v[1]))}; });
}

TEST(Float, Kinds) {
  const auto column = interesting({"f32"});
  const auto check = [&](const std::string& how, auto expected) {
    expect_ptx("testp." + how + ".f32 %d, %a;", "pred", {"f32"}, column,
               [&](Values v) { return Bits{expected(f32(v[0]))}; });
  };
  check("finite", [](float x) { return std::isfinite(x); });
  check("infinite", [](float x) { return std::isinf(x); });
  check("number", [](float x) { return x == x; });
  check("notanumber", [](float x) { return x != x; });
  check("normal", [](float x) { return std::isnormal(x); });
  check("subnormal", [](float x) { return x != 0 && std::fabs(x) < 0x1p-126f; });
}

TEST(Double, Arithmetic) {
  const auto two = interesting({"f64", "f64"});
  const auto three = interesting({"f64", "f64", "f64"});
  for (const auto& [name, mode] : kModes) {
    const auto check = [&, mode = mode](const std::string& instruction, auto f) {
      expect_ptx(instruction + "." + name + ".f64 %d, %a, %b;", "b64", {"f64", "f64"}, two, [&](Values v) {
        volatile double a = f64(v[0]), b = f64(v[1]);
        return bits_of(rounded(mode, [&] { return f(a, b); }));
      });
    };
    check("add", [](double a, double b) { return a + b; });
    check("sub", [](double a, double b) { return a - b; });
    check("mul", [](double a, double b) { return a * b; });
    check("div", [](double a, double b) { return a / b; });
    expect_ptx(std::string("fma.") + name + ".f64 %d, %a, %b, %c;", "b64", {"f64", "f64", "f64"}, three,
               [mode = mode](Values v) {
                 volatile double a = f64(v[0]), b = f64(v[1]), c = f64(v[2]);
                 return bits_of(rounded(mode, [&] { return std::fma(a, b, c); }));
               });
  }
}

}  // namespace

}  // namespace kiln::emulator::testing
