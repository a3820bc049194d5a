// Integer and bit instructions against their description in the PTX ISA.
#include <gtest/gtest.h>

#include <bit>
#include <type_traits>

#include "tests/cuda_emulator/tests/ptx_harness.h"

namespace kiln::emulator::testing {

namespace {

using Wide = __int128_t;

// `expected` is computed in 128 bits from values read as type T.
template <class T, class F>
void check2(const std::string& instruction, const std::string& type, F expected) {
  expect_ptx(
      instruction + "." + type + " %d, %a, %b;", type, {type, type}, interesting({type, type}),
      [&](Values v) { return static_cast<Bits>(expected(static_cast<T>(v[0]), static_cast<T>(v[1]))); });
}

template <class F>
void for_all_types(F f) {
  f(int16_t{}, "s16");
  f(uint16_t{}, "u16");
  f(int32_t{}, "s32");
  f(uint32_t{}, "u32");
  f(int64_t{}, "s64");
  f(uint64_t{}, "u64");
}

TEST(Integer, SumsProductsAndExtremes) {
  for_all_types([]<class T>(T, const char* type) {
    check2<T>("add", type, [](Wide a, Wide b) { return a + b; });
    check2<T>("sub", type, [](Wide a, Wide b) { return a - b; });
    check2<T>("mul.lo", type,
              [](Wide a, Wide b) { return static_cast<__uint128_t>(a) * static_cast<__uint128_t>(b); });
    check2<T>("mul.hi", type, [](T a, T b) {
      if constexpr (std::is_same_v<T, uint64_t>) return static_cast<Wide>((__uint128_t{a} * b) >> 64);
      return (Wide{a} * Wide{b}) >> (8 * sizeof(T));
    });
    check2<T>("min", type, [](Wide a, Wide b) { return a < b ? a : b; });
    check2<T>("max", type, [](Wide a, Wide b) { return a > b ? a : b; });
    check2<T>("div", type, [](Wide a, Wide b) { return b == 0 ? Wide{-1} : a / b; });
    check2<T>("rem", type, [](Wide a, Wide b) { return b == 0 ? a : a % b; });
  });
}

TEST(Integer, Saturation) {
  const auto clamp = [](Wide x) {
    return x > INT32_MAX ? Wide{INT32_MAX} : x < INT32_MIN ? Wide{INT32_MIN} : x;
  };
  check2<int32_t>("add.sat", "s32", [&](Wide a, Wide b) { return clamp(a + b); });
  check2<int32_t>("sub.sat", "s32", [&](Wide a, Wide b) { return clamp(a - b); });
}

TEST(Integer, WideProductsAndMultiplyAdds) {
  for_all_types([]<class T>(T, const std::string& type) {
    const auto product = [](Values v) { return Wide{static_cast<T>(v[0])} * static_cast<T>(v[1]); };
    const std::vector<std::string> same{type, type, type};
    expect_ptx("mad.lo." + type + " %d, %a, %b, %c;", type, same, interesting(same),
               [](Values v) { return v[0] * v[1] + v[2]; });
    expect_ptx("mad.hi." + type + " %d, %a, %b, %c;", type, same, interesting(same), [](Values v) {
      const __uint128_t bits = static_cast<__uint128_t>(Wide{static_cast<T>(v[0])}) *
                               static_cast<__uint128_t>(Wide{static_cast<T>(v[1])});
      return static_cast<Bits>(bits >> (8 * sizeof(T))) + v[2];
    });
    if (sizeof(T) == 8) return;
    const std::string wide = sizeof(T) == 2 ? "u32" : "u64";
    expect_ptx("mul.wide." + type + " %d, %a, %b;", wide, {type, type}, interesting({type, type}),
               [&](Values v) { return static_cast<Bits>(product(v)); });
    expect_ptx("mad.wide." + type + " %d, %a, %b, %c;", wide, {type, type, wide},
               interesting({type, type, wide}),
               [&](Values v) { return static_cast<Bits>(product(v)) + v[2]; });
  });
}

TEST(Integer, OneOperand) {
  for_all_types([]<class T>(T, const std::string& type) {
    if (!std::is_signed_v<T>) return;
    expect_ptx("neg." + type + " %d, %a;", type, {type}, interesting({type}),
               [](Values v) { return 0 - v[0]; });
    expect_ptx("abs." + type + " %d, %a;", type, {type}, interesting({type}),
               [](Values v) { return static_cast<T>(v[0]) < 0 ? 0 - v[0] : v[0]; });
  });
}

TEST(Bitwise, Logic) {
  for (const std::string bits : {"16", "32", "64"}) {
    const std::string type = "b" + bits, as = "u" + bits;
    const auto columns = interesting({as, as});
    expect_ptx("and." + type + " %d, %a, %b;", as, {as, as}, columns, [](Values v) { return v[0] & v[1]; });
    expect_ptx("or." + type + " %d, %a, %b;", as, {as, as}, columns, [](Values v) { return v[0] | v[1]; });
    expect_ptx("xor." + type + " %d, %a, %b;", as, {as, as}, columns, [](Values v) { return v[0] ^ v[1]; });
    expect_ptx("not." + type + " %d, %a;", as, {as}, {columns[0]}, [](Values v) { return ~v[0]; });
    expect_ptx("cnot." + type + " %d, %a;", as, {as}, {columns[0]}, [](Values v) { return Bits{v[0] == 0}; });
  }
  const auto predicates = interesting({"pred", "pred"});
  expect_ptx("and.pred %d, %a, %b;", "pred", {"pred", "pred"}, predicates,
             [](Values v) { return v[0] & v[1]; });
  expect_ptx("or.pred %d, %a, %b;", "pred", {"pred", "pred"}, predicates,
             [](Values v) { return v[0] | v[1]; });
  expect_ptx("xor.pred %d, %a, %b;", "pred", {"pred", "pred"}, predicates,
             [](Values v) { return v[0] ^ v[1]; });
  expect_ptx("not.pred %d, %a;", "pred", {"pred"}, {predicates[0]}, [](Values v) { return v[0] ^ 1; });
  expect_ptx("mov.pred %d, %a;", "pred", {"pred"}, {predicates[0]}, [](Values v) { return v[0]; });
}

TEST(Bitwise, Lop3IsATableOfThreeBits) {
  for (const int table : {0x00, 0x80, 0xc0, 0x96, 0xe8, 0x1e, 0xff}) {
    expect_ptx("lop3.b32 %d, %a, %b, %c, " + std::to_string(table) + ";", "b32", {"u32", "u32", "u32"},
               interesting({"u32", "u32", "u32"}), [table](Values v) {
                 Bits result = 0;
                 for (int i = 0; i < 32; ++i) {
                   const Bits index = (v[0] >> i & 1) << 2 | (v[1] >> i & 1) << 1 | (v[2] >> i & 1);
                   result |= (static_cast<Bits>(table) >> index & 1) << i;
                 }
                 return result;
               });
  }
}

TEST(Bitwise, ShiftsClampTheirAmount) {
  for (const std::string bits : {"16", "32", "64"}) {
    const int width = std::stoi(bits);
    const auto columns = interesting({"u" + bits, "u32"});
    expect_ptx("shl.b" + bits + " %d, %a, %b;", "b" + bits, {"u" + bits, "u32"}, columns,
               [width](Values v) { return v[1] >= static_cast<Bits>(width) ? 0 : v[0] << v[1]; });
    expect_ptx("shr.u" + bits + " %d, %a, %b;", "b" + bits, {"u" + bits, "u32"}, columns,
               [width](Values v) { return v[1] >= static_cast<Bits>(width) ? 0 : v[0] >> v[1]; });
    expect_ptx("shr.b" + bits + " %d, %a, %b;", "b" + bits, {"u" + bits, "u32"}, columns,
               [width](Values v) { return v[1] >= static_cast<Bits>(width) ? 0 : v[0] >> v[1]; });
    expect_ptx("shr.s" + bits + " %d, %a, %b;", "b" + bits, {"u" + bits, "u32"}, columns, [width](Values v) {
      const int64_t value = static_cast<int64_t>(v[0] << (64 - width)) >> (64 - width);
      return static_cast<Bits>(value >> (v[1] > 63 ? 63 : v[1]));
    });
  }
}

TEST(Bitwise, FunnelShifts) {
  const auto columns = interesting({"u32", "u32", "u32"});
  const auto both = [](Values v) { return v[1] << 32 | v[0]; };
  const auto clamp = [](Bits n) { return n > 32 ? 32 : n; };
  expect_ptx("shf.l.clamp.b32 %d, %a, %b, %c;", "b32", {"u32", "u32", "u32"}, columns,
             [&](Values v) { return (both(v) << clamp(v[2])) >> 32; });
  expect_ptx("shf.l.wrap.b32 %d, %a, %b, %c;", "b32", {"u32", "u32", "u32"}, columns,
             [&](Values v) { return (both(v) << (v[2] & 31)) >> 32; });
  expect_ptx("shf.r.clamp.b32 %d, %a, %b, %c;", "b32", {"u32", "u32", "u32"}, columns,
             [&](Values v) { return both(v) >> clamp(v[2]); });
  expect_ptx("shf.r.wrap.b32 %d, %a, %b, %c;", "b32", {"u32", "u32", "u32"}, columns,
             [&](Values v) { return both(v) >> (v[2] & 31); });
}

TEST(Bitwise, Counts) {
  for (const std::string bits : {"32", "64"}) {
    const int width = std::stoi(bits);
    const std::string type = "u" + bits;
    const auto columns = interesting({type});
    expect_ptx("popc.b" + bits + " %d, %a;", "b32", {type}, columns, [](Values v) {
      Bits count = 0;
      for (int i = 0; i < 64; ++i) count += v[0] >> i & 1;
      return count;
    });
    const auto leading = [width](Bits value) {  // position of the highest bit that is set, -1 without
      int position = width - 1;
      while (position >= 0 && (value >> position & 1) == 0) --position;
      return position;
    };
    expect_ptx("clz.b" + bits + " %d, %a;", "b32", {type}, columns,
               [&](Values v) { return static_cast<Bits>(width - 1 - leading(v[0])); });
    expect_ptx("bfind.u" + bits + " %d, %a;", "b32", {type}, columns,
               [&](Values v) { return static_cast<Bits>(leading(v[0])); });
    expect_ptx("bfind.shiftamt.u" + bits + " %d, %a;", "b32", {type}, columns,
               [&](Values v) { return v[0] == 0 ? ~Bits{0} : static_cast<Bits>(width - 1 - leading(v[0])); });
    expect_ptx("bfind.s" + bits + " %d, %a;", "b32", {type}, columns, [&](Values v) {
      const Bits all = ~Bits{0} >> (64 - width);
      return static_cast<Bits>(leading(v[0] >> (width - 1) & 1 ? ~v[0] & all : v[0]));
    });
    expect_ptx("bfind.shiftamt.s" + bits + " %d, %a;", "b32", {type}, columns, [&](Values v) {
      const Bits all = ~Bits{0} >> (64 - width);
      const int position = leading(v[0] >> (width - 1) & 1 ? ~v[0] & all : v[0]);
      return position < 0 ? ~Bits{0} : static_cast<Bits>(width - 1 - position);
    });
    expect_ptx("brev.b" + bits + " %d, %a;", type, {type}, columns, [width](Values v) {
      Bits result = 0;
      for (int i = 0; i < width; ++i) result |= (v[0] >> i & 1) << (width - 1 - i);
      return result;
    });
  }
}

// The ISA's own pseudo code for bfe and bfi.
Bits extract(Bits a, Bits b, Bits c, bool is_signed, int width) {
  const int most = width - 1, position = static_cast<int>(b & 255), length = static_cast<int>(c & 255);
  Bits sign = 0;
  if (is_signed && length > 0) sign = a >> std::min(position + length - 1, most) & 1;
  Bits result = 0;
  for (int i = 0; i <= most; ++i) {
    const bool inside = i < length && position + i <= most;
    result |= (inside ? a >> (position + i) & 1 : sign) << i;
  }
  return result;
}

TEST(Bitwise, FieldsAreExtractedAndInserted) {
  for (const std::string bits : {"32", "64"}) {
    const int width = std::stoi(bits);
    const std::string type = "u" + bits;
    auto columns = interesting({type, "u32", "u32"});
    for (size_t i = 0; i < columns[0].size(); ++i) {
      if (i % 2) columns[1][i] %= 70, columns[2][i] %= 70;
    }
    for (const bool is_signed : {false, true}) {
      expect_ptx(std::string("bfe.") + (is_signed ? "s" : "u") + bits + " %d, %a, %b, %c;", type,
                 {type, "u32", "u32"}, columns,
                 [&](Values v) { return extract(v[0], v[1], v[2], is_signed, width); });
    }
    std::vector<Column> four = interesting({type, type});
    four.push_back(columns[1]);
    four.push_back(columns[2]);
    expect_ptx("bfi.b" + bits + " %d, %a, %b, %c, %e;", type, {type, type, "u32", "u32"}, four,
               [&](Values v) {
                 const int position = static_cast<int>(v[2] & 255), length = static_cast<int>(v[3] & 255);
                 Bits result = v[1];
                 for (int i = 0; i < length && position + i < width; ++i) {
                   result = (result & ~(Bits{1} << (position + i))) | (v[0] >> i & 1) << (position + i);
                 }
                 return result;
               });
  }
}

Bits permuted(Bits a, Bits b, Bits selectors) {
  uint8_t bytes[8];
  for (int i = 0; i < 4; ++i)
    bytes[i] = static_cast<uint8_t>(a >> 8 * i), bytes[4 + i] = static_cast<uint8_t>(b >> 8 * i);
  Bits result = 0;
  for (int i = 0; i < 4; ++i) {
    const Bits selector = selectors >> 4 * i & 15;
    const uint8_t byte = bytes[selector & 7];
    result |= Bits{selector & 8 ? static_cast<uint8_t>(static_cast<int8_t>(byte) >> 7) : byte} << 8 * i;
  }
  return result;
}

TEST(Bitwise, BytePermutations) {
  const auto columns = interesting({"u32", "u32", "u32"});
  expect_ptx("prmt.b32 %d, %a, %b, %c;", "b32", {"u32", "u32", "u32"}, columns,
             [](Values v) { return permuted(v[0], v[1], v[2]); });
  // Forward: four bytes from position c up; backward: down; rc8: one byte four times; rc16: one half twice.
  expect_ptx("prmt.b32.f4e %d, %a, %b, %c;", "b32", {"u32", "u32", "u32"}, columns,
             [](Values v) { return (v[1] << 32 | v[0]) >> (8 * (v[2] & 3)); });
  expect_ptx("prmt.b32.b4e %d, %a, %b, %c;", "b32", {"u32", "u32", "u32"}, columns, [](Values v) {
    Bits result = 0;
    for (int i = 0; i < 4; ++i)
      result |= ((v[1] << 32 | v[0]) >> (8 * ((static_cast<int>(v[2] & 3) - i) & 7)) & 255) << 8 * i;
    return result;
  });
  expect_ptx("prmt.b32.rc8 %d, %a, %b, %c;", "b32", {"u32", "u32", "u32"}, columns,
             [](Values v) { return (v[0] >> (8 * (v[2] & 3)) & 255) * 0x01010101; });
  expect_ptx("prmt.b32.rc16 %d, %a, %b, %c;", "b32", {"u32", "u32", "u32"}, columns,
             [](Values v) { return (v[0] >> (16 * (v[2] & 1)) & 0xffff) * 0x00010001; });
  // Edges clamped: bytes left (right) of position c repeat it.
  expect_ptx("prmt.b32.ecl %d, %a, %b, %c;", "b32", {"u32", "u32", "u32"}, columns, [](Values v) {
    Bits result = 0;
    for (Bits i = 0; i < 4; ++i) result |= (v[0] >> (8 * std::max(i, v[2] & 3)) & 255) << 8 * i;
    return result;
  });
  expect_ptx("prmt.b32.ecr %d, %a, %b, %c;", "b32", {"u32", "u32", "u32"}, columns, [](Values v) {
    Bits result = 0;
    for (Bits i = 0; i < 4; ++i) result |= (v[0] >> (8 * std::min(i, v[2] & 3)) & 255) << 8 * i;
    return result;
  });
}

TEST(Move, KeepsBits) {
  for (const std::string type :
       {"b16", "s16", "u16", "b32", "s32", "u32", "f32", "b64", "s64", "u64", "f64"}) {
    const std::string bits = "u" + type.substr(1);
    expect_ptx("mov." + type + " %d, %a;", bits, {bits}, interesting({bits}), [](Values v) { return v[0]; });
  }
}

TEST(Move, PacksAndUnpacks) {
  expect_ptx("mov.b32 %d, {%a, %b};", "b32", {"u16", "u16"}, interesting({"u16", "u16"}),
             [](Values v) { return v[1] << 16 | v[0]; });
  expect_ptx("mov.b64 %d, {%a, %b};", "b64", {"u32", "u32"}, interesting({"u32", "u32"}),
             [](Values v) { return v[1] << 32 | v[0]; });
  expect_ptx("mov.b64 %d, {%a, %b, %c, %e};", "b64", {"u16", "u16", "u16", "u16"},
             interesting({"u16", "u16", "u16", "u16"}),
             [](Values v) { return v[3] << 48 | v[2] << 32 | v[1] << 16 | v[0]; });
  expect_ptx("mov.b64 {_, %d}, %a;", "b32", {"u64"}, interesting({"u64"}),
             [](Values v) { return v[0] >> 32; });
  expect_ptx("mov.b32 {%d, _}, %a;", "b16", {"u32"}, interesting({"u32"}),
             [](Values v) { return v[0] & 0xffff; });
  expect_ptx("mov.b32 %d, 1.5;", "b32", {"u32"}, interesting({"u32"}),
             [](Values) { return Bits{0x3fc00000}; });
}

// One comparison alone and with a third predicate, plain and negated, in all ways to combine them.
void check_setp(const std::string& how, const std::string& type, const std::string& as,
                const Reference& expected) {
  const std::vector<std::string> types{as, as, "pred"};
  const std::vector<Column> columns = interesting(types);
  expect_ptx("setp." + how + "." + type + " %d, %a, %b;", "pred", types, columns, expected);
  expect_ptx("setp." + how + ".and." + type + " %d, %a, %b, %c;", "pred", types, columns,
             [&](Values v) { return expected(v) & v[2]; });
  expect_ptx("setp." + how + ".or." + type + " %d, %a, %b, !%c;", "pred", types, columns,
             [&](Values v) { return expected(v) | (v[2] ^ 1); });
  expect_ptx("setp." + how + ".xor." + type + " %q|%d, %a, %b, %c;", "pred", types, columns,
             [&](Values v) { return expected(v) ^ 1 ^ v[2]; });
}

template <class T, class F>
void for_all_orders(const std::string& type, F check) {
  const auto with = [&](const std::string& how, auto compare) {
    check(how, type,
          [compare](Values v) { return Bits{compare(static_cast<T>(v[0]), static_cast<T>(v[1]))}; });
  };
  with("eq", [](T a, T b) { return a == b; });
  with("ne", [](T a, T b) { return a != b; });
  with("lt", [](T a, T b) { return a < b; });
  with("le", [](T a, T b) { return a <= b; });
  with("gt", [](T a, T b) { return a > b; });
  with("ge", [](T a, T b) { return a >= b; });
}

TEST(Compare, Integers) {
  for_all_types([]<class T>(T, const std::string& type) {
    const std::string width = type.substr(1);
    for_all_orders<T>(type, [&](const std::string& how, const std::string&, const Reference& expected) {
      check_setp(how, type, type, expected);
      for (const std::string result : {"u32", "s32", "f32"}) {
        const Bits yes = result == "f32" ? 0x3f800000 : 0xffffffff;
        expect_ptx("set." + how + "." + result + "." + type + " %d, %a, %b;", "b32", {type, type},
                   interesting({type, type}), [&](Values v) { return expected(v) ? yes : 0; });
      }
      if (std::is_signed_v<T>) return;
      if (how == "eq" || how == "ne") check_setp(how, "b" + width, type, expected);
      const std::string same = how == "lt" ? "lo" : how == "le" ? "ls" : how == "gt" ? "hi" : "hs";
      if (how != "eq" && how != "ne") check_setp(same, type, type, expected);
    });
  });
}

TEST(Compare, TheOppositeAndNoResult) {
  const std::vector<std::string> types{"s32", "s32", "pred"};
  const auto columns = interesting(types);
  const auto less = [](Values v) { return Bits{static_cast<int32_t>(v[0]) < static_cast<int32_t>(v[1])}; };
  expect_ptx("setp.lt.xor.s32 %d|%q, %a, %b, %c;", "pred", types, columns,
             [&](Values v) { return less(v) ^ v[2]; });
  expect_ptx("setp.lt.and.s32 %q|%d, %a, %b, %c;", "pred", types, columns,
             [&](Values v) { return (less(v) ^ 1) & v[2]; });
  expect_ptx("setp.lt.s32 _|%d, %a, %b;", "pred", types, columns, [&](Values v) { return less(v) ^ 1; });
}

TEST(Compare, Selections) {
  for (const std::string type :
       {"b16", "s16", "u16", "b32", "s32", "u32", "f32", "b64", "s64", "u64", "f64"}) {
    const std::string bits = "u" + type.substr(1);
    const auto columns = interesting({bits, bits, "pred"});
    expect_ptx("selp." + type + " %d, %a, %b, %c;", bits, {bits, bits, "pred"}, columns,
               [](Values v) { return v[2] ? v[0] : v[1]; });
    expect_ptx("selp." + type + " %d, %a, %b, !%c;", bits, {bits, bits, "pred"}, columns,
               [](Values v) { return v[2] ? v[1] : v[0]; });
    if (bits == "u16") continue;
    expect_ptx("slct." + type + ".s32 %d, %a, %b, %c;", bits, {bits, bits, "s32"},
               interesting({bits, bits, "s32"}),
               [](Values v) { return static_cast<int32_t>(v[2]) >= 0 ? v[0] : v[1]; });
    expect_ptx("slct." + type + ".f32 %d, %a, %b, %c;", bits, {bits, bits, "f32"},
               interesting({bits, bits, "f32"}), [](Values v) { return f32(v[2]) >= 0 ? v[0] : v[1]; });
  }
}

}  // namespace

}  // namespace kiln::emulator::testing
