// Comparisons and selections, PTX ISA 9.7.6 and 9.7.7.
#include <cmath>
#include <optional>

#include "tests/cuda_emulator/decode.h"
#include "tests/cuda_emulator/rows.h"
#include "tests/cuda_emulator/small_floats.h"

namespace kiln::emulator {

namespace {

using CompareFunction = uint32_t (*)(Registers, const Op&);

enum class Logic : uint8_t { kNone, kAnd, kOr, kXor };

template <class A, class F>
constexpr CompareFunction compare(F) {
  return compare_rows<F, A>;
}

template <class A>
CompareFunction compare_numbers(std::string_view how) {
  if (how == "eq") return compare<A>([](A a, A b) { return a == b; });
  if (how == "ne") return compare<A>([](A a, A b) { return a != b; });
  if (how == "lt" || how == "lo") return compare<A>([](A a, A b) { return a < b; });
  if (how == "le" || how == "ls") return compare<A>([](A a, A b) { return a <= b; });
  if (how == "gt" || how == "hi") return compare<A>([](A a, A b) { return a > b; });
  if (how == "ge" || how == "hs") return compare<A>([](A a, A b) { return a >= b; });
  return nullptr;
}

// Ordered comparisons are false with a NaN, also ne; those that end with u are true.
template <class A, class In>
CompareFunction compare_floats(std::string_view how, In) {
  if (how == "eq") return compare<A>([](A a, A b) { return In{}(a) == In{}(b); });
  if (how == "ne") return compare<A>([](A a, A b) { return In{}(a) < In{}(b) || In{}(a) > In{}(b); });
  if (how == "lt") return compare<A>([](A a, A b) { return In{}(a) < In{}(b); });
  if (how == "le") return compare<A>([](A a, A b) { return In{}(a) <= In{}(b); });
  if (how == "gt") return compare<A>([](A a, A b) { return In{}(a) > In{}(b); });
  if (how == "ge") return compare<A>([](A a, A b) { return In{}(a) >= In{}(b); });
  if (how == "equ") return compare<A>([](A a, A b) { return !(In{}(a) < In{}(b) || In{}(a) > In{}(b)); });
  if (how == "neu") return compare<A>([](A a, A b) { return In{}(a) != In{}(b); });
  if (how == "ltu") return compare<A>([](A a, A b) { return !(In{}(a) >= In{}(b)); });
  if (how == "leu") return compare<A>([](A a, A b) { return !(In{}(a) > In{}(b)); });
  if (how == "gtu") return compare<A>([](A a, A b) { return !(In{}(a) <= In{}(b)); });
  if (how == "geu") return compare<A>([](A a, A b) { return !(In{}(a) < In{}(b)); });
  if (how == "num") return compare<A>([](A a, A b) { return In{}(a) == In{}(a) && In{}(b) == In{}(b); });
  if (how == "nan") return compare<A>([](A a, A b) { return In{}(a) != In{}(a) || In{}(b) != In{}(b); });
  return nullptr;
}

CompareFunction comparison(const Statement& s, Type type) {
  const std::string_view how = s.modifiers.empty() ? "" : s.modifiers[0];
  switch (type) {
    case Type::kS16:
      return compare_numbers<int16_t>(how);
    case Type::kU16:
    case Type::kB16:
      return compare_numbers<uint16_t>(how);
    case Type::kS32:
      return compare_numbers<int32_t>(how);
    case Type::kU32:
    case Type::kB32:
      return compare_numbers<uint32_t>(how);
    case Type::kS64:
      return compare_numbers<int64_t>(how);
    case Type::kU64:
    case Type::kB64:
      return compare_numbers<uint64_t>(how);
    case Type::kF32:
      if (s.has("ftz")) return compare_floats<float>(how, [](float x) { return flush(x); });
      return compare_floats<float>(how, [](float x) { return x; });
    case Type::kF64:
      return compare_floats<double>(how, [](double x) { return x; });
    case Type::kF16:
      return compare_floats<uint16_t>(how, [](uint16_t x) { return half_to_float(x); });
    case Type::kBf16:
      return compare_floats<uint16_t>(how, [](uint16_t x) { return brain_to_float(x); });
    default:
      return nullptr;
  }
}

void set_comparison(const Statement& s, Type type, Kernel& kernel, Op& op) {
  Detail& detail = kernel.details.emplace_back();
  detail.compare = comparison(s, type);
  if (detail.compare == nullptr) throw UnsupportedInstruction("of that type");
  op.detail = &detail;
}

uint32_t combined(Logic logic, uint32_t a, uint32_t b) {
  switch (logic) {
    case Logic::kAnd:
      return a & b;
    case Logic::kOr:
      return a | b;
    case Logic::kXor:
      return a ^ b;
    case Logic::kNone:
      break;
  }
  return a;
}

// setp.cmp.bool p|q, a, b, c: p = (a cmp b) bool c, q = !(a cmp b) bool c. The low bits of `small` are the logic, the
// next one says that c is negated.
void run_setp(Registers r, const Op& op, uint32_t mask) {
  const uint32_t result = op.detail->compare(r, op);
  const Logic logic = static_cast<Logic>(op.small & 3);
  uint32_t c = logic == Logic::kNone ? 0 : mask_row(r, op.c);
  if (op.small & 4) c = ~c;
  const auto store = [&](uint32_t to, uint32_t value) {
    if (to == kNoRow) return;
    uint32_t& d = mask_row(r, to);
    d = (d & ~mask) | (combined(logic, value, c) & mask);
  };
  store(op.d, result);
  store(op.e, ~result);
}

// set.cmp.dtype.stype d, a, b: all ones (or 1.0) where true.
void run_set(Registers r, const Op& op, uint32_t) {
  const uint32_t result = op.detail->compare(r, op);
  const uint32_t yes = op.small ? 0x3f800000u : kAllLanes;
  uint32_t* d = row<uint32_t>(r, op.d);
  for (int l = 0; l < kLanes; ++l) d[l] = result >> l & 1 ? yes : 0;
}

template <class T>
void run_selp(Registers r, const Op& op, uint32_t) {
  T* d = row<T>(r, op.d);
  const T *a = row<const T>(r, op.a), *b = row<const T>(r, op.b);
  const uint32_t chosen = mask_row(r, op.c) ^ (op.small ? kAllLanes : 0);
#pragma GCC ivdep
  for (int l = 0; l < kLanes; ++l) d[l] = chosen >> l & 1 ? a[l] : b[l];
}

// slct.type.s32 d, a, b, c: a where c >= 0.
template <class T, class C>
AluFunction select_by_sign() {
  return ternary<T, T, T, C>([](T a, T b, C c) { return c >= C{0} ? a : b; });
}

enum class Test : uint8_t { kFinite, kInfinite, kNumber, kNotANumber, kNormal, kSubnormal };

template <class F>
void run_testp(Registers r, const Op& op, uint32_t mask) {
  const F* a = row<const F>(r, op.a);
  uint32_t result = 0;
  for (int l = 0; l < kLanes; ++l) {
    const int kind = std::fpclassify(a[l]);
    bool yes = false;
    switch (static_cast<Test>(op.small)) {
      case Test::kFinite:
        yes = kind != FP_INFINITE && kind != FP_NAN;
        break;
      case Test::kInfinite:
        yes = kind == FP_INFINITE;
        break;
      case Test::kNumber:
        yes = kind != FP_NAN;
        break;
      case Test::kNotANumber:
        yes = kind == FP_NAN;
        break;
      case Test::kNormal:
        yes = kind == FP_NORMAL || kind == FP_ZERO;  // as the ISA has it
        break;
      case Test::kSubnormal:
        yes = kind == FP_SUBNORMAL;
        break;
    }
    result |= (yes ? 1u : 0u) << l;
  }
  uint32_t& d = mask_row(r, op.d);
  d = (d & ~mask) | (result & mask);
}

Logic logic_of(const Statement& s) {
  return s.has("and") ? Logic::kAnd : s.has("or") ? Logic::kOr : s.has("xor") ? Logic::kXor : Logic::kNone;
}

void decode_setp(const Statement& s, Rows& rows, Kernel& kernel, Op& op) {
  const Type type = s.type();
  set_comparison(s, type, kernel, op);
  op.kind = OpKind::kMasked;
  op.run = run_setp;
  const Operand& to = operand(s, 0);
  const bool pair = to.kind == Operand::Kind::kPair;
  op.d = rows.optional_predicate(pair ? to.parts[0] : to);
  if (pair) op.e = rows.optional_predicate(to.parts[1]);
  op.a = rows.source(operand(s, 1), type);
  op.b = rows.source(operand(s, 2), type);
  const Logic logic = logic_of(s);
  op.small = static_cast<uint8_t>(logic);
  if (logic == Logic::kNone) return;
  Operand c = operand(s, 3);
  if (c.negated) op.small |= 4;
  c.negated = false;
  op.c = rows.predicate(c);
}

bool decode_testp(const Statement& s, Rows& rows, Op& op) {
  constexpr std::pair<std::string_view, Test> kTests[] = {
      {"finite", Test::kFinite},         {"infinite", Test::kInfinite}, {"number", Test::kNumber},
      {"notanumber", Test::kNotANumber}, {"normal", Test::kNormal},     {"subnormal", Test::kSubnormal}};
  for (const auto& [name, test] : kTests) {
    if (s.has(name)) op.small = static_cast<uint8_t>(test);
  }
  const Type type = s.type();
  op.kind = OpKind::kMasked;
  op.run = type == Type::kF64 ? run_testp<double> : run_testp<float>;
  op.d = rows.predicate(operand(s, 0));
  op.a = rows.source(operand(s, 1), type);
  return true;
}

}  // namespace

bool decode_compare(const Statement& s, Rows& rows, Kernel& kernel, Op& op) {
  if (s.opcode == "setp") {
    decode_setp(s, rows, kernel, op);
    return true;
  }
  if (s.opcode == "testp") return decode_testp(s, rows, op);
  const Type type = s.type();
  op.kind = OpKind::kRow;
  op.width = static_cast<uint8_t>(bytes_of(type));
  if (s.opcode == "set") {
    if (logic_of(s) != Logic::kNone || bytes_of(type) != 4) throw UnsupportedInstruction("of that form");
    set_comparison(s, s.type(1), kernel, op);
    op.run = run_set;
    op.small = type == Type::kF32;
    op.a = rows.source(operand(s, 1), s.type(1));
    op.b = rows.source(operand(s, 2), s.type(1));
  } else if (s.opcode == "selp") {
    op.run = bytes_of(type) == 2   ? run_selp<uint16_t>
             : bytes_of(type) == 4 ? run_selp<uint32_t>
             : bytes_of(type) == 8 ? run_selp<uint64_t>
                                   : nullptr;
    op.a = rows.source(operand(s, 1), type);
    op.b = rows.source(operand(s, 2), type);
    Operand c = operand(s, 3);
    op.small = c.negated;
    c.negated = false;
    op.c = rows.predicate(c);
  } else if (s.opcode == "slct") {
    const bool by_integer = s.type(1) == Type::kS32;
    if (bytes_of(type) == 4)
      op.run = by_integer ? select_by_sign<uint32_t, int32_t>() : select_by_sign<uint32_t, float>();
    if (bytes_of(type) == 8)
      op.run = by_integer ? select_by_sign<uint64_t, int32_t>() : select_by_sign<uint64_t, float>();
    op.a = rows.source(operand(s, 1), type);
    op.b = rows.source(operand(s, 2), type);
    op.c = rows.source(operand(s, 3), s.type(1));
  } else {
    return false;
  }
  if (op.run == nullptr) throw UnsupportedInstruction("of that type");
  op.d = rows.destination(operand(s, 0), type);
  return true;
}

}  // namespace kiln::emulator
