// Logic, shifts and bit fields, PTX ISA 9.7.1 (bit instructions), 9.7.8 and prmt.
#include <algorithm>

#include "tests/cuda_emulator/decode.h"
#include "tests/cuda_emulator/rows.h"

namespace kiln::emulator {

namespace {

template <class T>
constexpr uint32_t kBits = 8 * sizeof(T);

// Shifts by the width or more give zero, or all sign bits.
template <class T>
T shift_left(T a, uint32_t n) {
  return n >= kBits<T> ? T{0} : static_cast<T>(static_cast<uint64_t>(a) << n);
}

template <class T>
T shift_right(T a, uint32_t n) {
  if constexpr (std::is_signed_v<T>) {
    return static_cast<T>(a >> std::min(n, kBits<T> - 1));
  } else {
    return n >= kBits<T> ? T{0} : static_cast<T>(a >> n);
  }
}

// shf: bits of the 64-bit value (b, a); the amount is clamped to 32 or wraps.
template <bool kLeft, bool kWrap>
uint32_t funnel_shift(uint32_t a, uint32_t b, uint32_t amount) {
  const uint32_t n = kWrap ? amount & 31 : std::min<uint32_t>(amount, 32);
  const uint64_t both = uint64_t{b} << 32 | a;
  return kLeft ? static_cast<uint32_t>((both << n) >> 32) : static_cast<uint32_t>(both >> n);
}

template <class T>
T extract_field(T a, uint32_t position, uint32_t length) {
  constexpr uint32_t kMost = kBits<T> - 1;
  const uint32_t p = position & 255, n = length & 255;
  const auto bit = [a](uint32_t index) { return static_cast<uint64_t>(a) >> index & 1; };
  uint64_t sign = 0;
  if (std::is_signed_v<T> && n > 0) sign = bit(std::min(p + n - 1, kMost));
  const uint32_t inside = p > kMost ? 0 : std::min(n, kBits<T> - p);
  uint64_t field = 0;
  if (inside > 0) {
    field = static_cast<uint64_t>(a) >> p;
    if (inside < 64) field &= (uint64_t{1} << inside) - 1;
  }
  if (sign && inside < 64) field |= ~uint64_t{0} << inside;
  return static_cast<T>(field);
}

template <class T>
T insert_field(T a, T b, uint32_t position, uint32_t length) {
  const uint32_t p = position & 255, n = length & 255;
  if (p >= kBits<T>) return b;
  const T ones = n >= kBits<T> ? static_cast<T>(~T{0}) : static_cast<T>((uint64_t{1} << n) - 1);
  const T field = static_cast<T>(ones << p);
  return static_cast<T>((b & ~field) | ((a << p) & field));
}

template <class T>
void run_insert(Registers r, const Op& op, uint32_t) {
  for (int l = 0; l < kLanes; ++l) {
    row<T>(r, op.d)[l] = insert_field(row<T>(r, op.a)[l], row<T>(r, op.b)[l], row<uint32_t>(r, op.c)[l],
                                      row<uint32_t>(r, op.e)[l]);
  }
}

uint32_t permute_bytes(uint32_t a, uint32_t b, uint32_t selectors) {
  const uint64_t both = uint64_t{b} << 32 | a;
  uint32_t result = 0;
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t selector = selectors >> (4 * i) & 15;
    uint32_t byte = static_cast<uint32_t>(both >> (8 * (selector & 7))) & 255;
    if (selector & 8) byte = byte & 128 ? 255 : 0;
    result |= byte << (8 * i);
  }
  return result;
}

// prmt with a mode: two bits of c choose.
uint32_t permute_mode(uint32_t mode, uint32_t a, uint32_t b, uint32_t c) {
  constexpr uint32_t kSelectors[6][4] = {{0x3210, 0x4321, 0x5432, 0x6543}, {0x5670, 0x6701, 0x7012, 0x0123},
                                         {0x0000, 0x1111, 0x2222, 0x3333}, {0x3210, 0x3211, 0x3222, 0x3333},
                                         {0x0000, 0x1110, 0x2210, 0x3210}, {0x1010, 0x3232, 0x1010, 0x3232}};
  return permute_bytes(a, b, kSelectors[mode][c & 3]);
}

void run_permute_mode(Registers r, const Op& op, uint32_t) {
  for (int l = 0; l < kLanes; ++l) {
    row<uint32_t>(r, op.d)[l] = permute_mode(op.small, row<uint32_t>(r, op.a)[l], row<uint32_t>(r, op.b)[l],
                                             row<uint32_t>(r, op.c)[l]);
  }
}

// Bit i of the table is the result for the bits (a, b, c) whose value is i.
void run_lop3(Registers r, const Op& op, uint32_t) {
  uint32_t* d = row<uint32_t>(r, op.d);
  const uint32_t *a = row<uint32_t>(r, op.a), *b = row<uint32_t>(r, op.b), *c = row<uint32_t>(r, op.c);
  const uint32_t table = op.small;
  for (int l = 0; l < kLanes; ++l) {
    uint32_t result = 0;
    for (uint32_t i = 0; i < 8; ++i) {
      const uint32_t term = (i & 4 ? a[l] : ~a[l]) & (i & 2 ? b[l] : ~b[l]) & (i & 1 ? c[l] : ~c[l]);
      result |= table >> i & 1 ? term : 0;
    }
    d[l] = result;
  }
}

// The position of the most significant bit that is not a copy of the sign; all ones where there is none.
template <class T>
uint32_t find_leading(T a, bool as_shift) {
  using U = std::make_unsigned_t<T>;
  const U bits = static_cast<U>(std::is_signed_v<T> && a < 0 ? ~a : a);
  if (bits == 0) return kAllLanes;
  const uint32_t position = kBits<T> - 1 - static_cast<uint32_t>(std::countl_zero(bits));
  return as_shift ? kBits<T> - 1 - position : position;
}

enum class PredicateLogic : uint8_t { kAnd, kOr, kXor, kNot, kMove };

void run_predicate_logic(Registers r, const Op& op, uint32_t mask) {
  const uint32_t a = mask_row(r, op.a), b = op.b == kNoRow ? 0 : mask_row(r, op.b);
  uint32_t result = a;
  switch (static_cast<PredicateLogic>(op.small)) {
    case PredicateLogic::kAnd:
      result = a & b;
      break;
    case PredicateLogic::kOr:
      result = a | b;
      break;
    case PredicateLogic::kXor:
      result = a ^ b;
      break;
    case PredicateLogic::kNot:
      result = ~a;
      break;
    case PredicateLogic::kMove:
      break;
  }
  uint32_t& d = mask_row(r, op.d);
  d = (d & ~mask) | (result & mask);
}

bool decode_predicate_logic(const Statement& s, Rows& rows, Op& op) {
  constexpr std::pair<std::string_view, PredicateLogic> kNames[] = {{"and", PredicateLogic::kAnd},
                                                                    {"or", PredicateLogic::kOr},
                                                                    {"xor", PredicateLogic::kXor},
                                                                    {"not", PredicateLogic::kNot},
                                                                    {"mov", PredicateLogic::kMove}};
  for (const auto& [name, logic] : kNames) {
    if (s.opcode != name) continue;
    op.kind = OpKind::kMasked;
    op.run = run_predicate_logic;
    op.small = static_cast<uint8_t>(logic);
    op.d = rows.predicate(operand(s, 0));
    op.a = rows.predicate(operand(s, 1));
    if (s.operands.size() > 2) op.b = rows.predicate(operand(s, 2));
    return true;
  }
  return false;
}

AluFunction logic(const Statement& s, Type type) {
  return for_unsigned(type, [&]<class T>(T) -> AluFunction {
    if (s.opcode == "and") return binary<T, T, T>([](T a, T b) { return static_cast<T>(a & b); });
    if (s.opcode == "or") return binary<T, T, T>([](T a, T b) { return static_cast<T>(a | b); });
    if (s.opcode == "xor") return binary<T, T, T>([](T a, T b) { return static_cast<T>(a ^ b); });
    if (s.opcode == "not") return unary<T, T>([](T a) { return static_cast<T>(~a); });
    if (s.opcode == "cnot") return unary<T, T>([](T a) { return static_cast<T>(a == 0 ? 1 : 0); });
    return nullptr;
  });
}

AluFunction shift(const Statement& s, Type type) {
  if (s.opcode == "shl") {
    return for_unsigned(type, []<class T>(T) {
      return binary<T, T, uint32_t>([](T a, uint32_t n) { return shift_left(a, n); });
    });
  }
  return for_integer(type, []<class T>(T) {
    return binary<T, T, uint32_t>([](T a, uint32_t n) { return shift_right(a, n); });
  });
}

AluFunction funnel(const Statement& s) {
  using U = uint32_t;
  const bool left = s.has("l"), wrap = s.has("wrap");
  if (left && wrap)
    return ternary<U, U, U, U>([](U a, U b, U c) { return funnel_shift<true, true>(a, b, c); });
  if (left) return ternary<U, U, U, U>([](U a, U b, U c) { return funnel_shift<true, false>(a, b, c); });
  if (wrap) return ternary<U, U, U, U>([](U a, U b, U c) { return funnel_shift<false, true>(a, b, c); });
  return ternary<U, U, U, U>([](U a, U b, U c) { return funnel_shift<false, false>(a, b, c); });
}

// The instructions whose result has 32 bits: popc, clz, bfind.
AluFunction bit_count(const Statement& s, Type type) {
  if (s.opcode == "popc") {
    return for_unsigned(type, []<class T>(T) {
      return unary<uint32_t, T>([](T a) { return static_cast<uint32_t>(std::popcount(a)); });
    });
  }
  if (s.opcode == "clz") {
    return for_unsigned(type, []<class T>(T) {
      return unary<uint32_t, T>([](T a) { return static_cast<uint32_t>(std::countl_zero(a)); });
    });
  }
  if (s.has("shiftamt")) {
    return for_integer(
        type, []<class T>(T) { return unary<uint32_t, T>([](T a) { return find_leading(a, true); }); });
  }
  return for_integer(
      type, []<class T>(T) { return unary<uint32_t, T>([](T a) { return find_leading(a, false); }); });
}

template <class T>
T reversed(T a) {
  T result = 0;
  for (uint32_t i = 0; i < kBits<T>; ++i) result |= static_cast<T>((a >> i & 1) << (kBits<T> - 1 - i));
  return result;
}

int permute_mode_of(const Statement& s) {
  constexpr std::string_view kModes[] = {"f4e", "b4e", "rc8", "ecl", "ecr", "rc16"};
  for (int i = 0; i < 6; ++i) {
    if (s.has(kModes[i])) return i;
  }
  return -1;
}

}  // namespace

bool decode_bits(const Statement& s, Rows& rows, Kernel&, Op& op) {
  const Type type = s.type();
  if (type == Type::kPred) return decode_predicate_logic(s, rows, op);
  op.kind = OpKind::kRow;
  op.width = static_cast<uint8_t>(bytes_of(type));
  if (s.opcode == "and" || s.opcode == "or" || s.opcode == "xor") {
    op.run = logic(s, type);
    op.a = rows.source(operand(s, 1), type);
    op.b = rows.source(operand(s, 2), type);
  } else if (s.opcode == "not" || s.opcode == "cnot") {
    op.run = logic(s, type);
    op.a = rows.source(operand(s, 1), type);
  } else if (s.opcode == "shl" || s.opcode == "shr") {
    op.run = shift(s, type);
    op.a = rows.source(operand(s, 1), type);
    op.b = rows.source(operand(s, 2), Type::kU32);
  } else if (s.opcode == "shf") {
    only_modifiers(s, {"l", "r", "wrap", "clamp"});
    op.run = funnel(s);
    op.a = rows.source(operand(s, 1), type);
    op.b = rows.source(operand(s, 2), type);
    op.c = rows.source(operand(s, 3), Type::kU32);
  } else if (s.opcode == "popc" || s.opcode == "clz" || s.opcode == "bfind") {
    only_modifiers(s, {"shiftamt"});
    op.run = bit_count(s, type);
    op.a = rows.source(operand(s, 1), type);
    op.d = rows.destination(operand(s, 0), Type::kU32);
    op.width = 4;
  } else if (s.opcode == "brev") {
    op.run = for_unsigned(type, []<class T>(T) { return unary<T, T>([](T a) { return reversed(a); }); });
    op.a = rows.source(operand(s, 1), type);
  } else if (s.opcode == "bfe") {
    op.run = for_integer(type, []<class T>(T) {
      return ternary<T, T, uint32_t, uint32_t>(
          [](T a, uint32_t p, uint32_t n) { return extract_field(a, p, n); });
    });
    op.a = rows.source(operand(s, 1), type);
    op.b = rows.source(operand(s, 2), Type::kU32);
    op.c = rows.source(operand(s, 3), Type::kU32);
  } else if (s.opcode == "bfi") {
    op.run = bytes_of(type) == 8 ? run_insert<uint64_t> : run_insert<uint32_t>;
    op.a = rows.source(operand(s, 1), type);
    op.b = rows.source(operand(s, 2), type);
    op.c = rows.source(operand(s, 3), Type::kU32);
    op.e = rows.source(operand(s, 4), Type::kU32);
  } else if (s.opcode == "prmt") {
    using U = uint32_t;
    only_modifiers(s, {"f4e", "b4e", "rc8", "ecl", "ecr", "rc16"});
    const int mode = permute_mode_of(s);
    op.small = static_cast<uint8_t>(std::max(mode, 0));
    op.run = mode < 0 ? ternary<U, U, U, U>([](U a, U b, U c) { return permute_bytes(a, b, c); })
                      : run_permute_mode;
    op.a = rows.source(operand(s, 1), type);
    op.b = rows.source(operand(s, 2), type);
    op.c = rows.source(operand(s, 3), type);
  } else if (s.opcode == "lop3") {
    only_modifiers(s, {});
    op.run = run_lop3;
    op.a = rows.source(operand(s, 1), type);
    op.b = rows.source(operand(s, 2), type);
    op.c = rows.source(operand(s, 3), type);
    op.small = static_cast<uint8_t>(operand(s, 4).bits);
  } else {
    return false;
  }
  if (op.run == nullptr) throw UnsupportedInstruction("of that type");
  if (op.d == kNoRow) op.d = rows.destination(operand(s, 0), type);
  return true;
}

}  // namespace kiln::emulator
