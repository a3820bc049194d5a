// What atomic operations compute, PTX ISA 9.7.13.5.
#include <algorithm>
#include <bit>

#include "tests/cuda_emulator/memory_ops.h"
#include "tests/cuda_emulator/rows.h"
#include "tests/cuda_emulator/small_floats.h"

namespace kiln::emulator {

namespace {

template <class T>
uint64_t integer_result(AtomicKind kind, uint64_t old, uint64_t operand, uint64_t swap) {
  using U = std::make_unsigned_t<T>;
  const T a = static_cast<T>(old), b = static_cast<T>(operand);
  const auto bits = [](T value) { return uint64_t{static_cast<U>(value)}; };
  switch (kind) {
    case AtomicKind::kAdd:
      return static_cast<U>(old + operand);
    case AtomicKind::kMin:
      return bits(std::min(a, b));
    case AtomicKind::kMax:
      return bits(std::max(a, b));
    case AtomicKind::kAnd:
      return static_cast<U>(old & operand);
    case AtomicKind::kOr:
      return static_cast<U>(old | operand);
    case AtomicKind::kXor:
      return static_cast<U>(old ^ operand);
    case AtomicKind::kExchange:
      return bits(b);
    case AtomicKind::kCompareSwap:
      return a == b ? bits(static_cast<T>(swap)) : bits(a);
    case AtomicKind::kIncrement:
      return a >= b ? 0 : static_cast<U>(old + 1);
    case AtomicKind::kDecrement:
      return a == 0 || a > b ? bits(b) : static_cast<U>(old - 1);
  }
  return old;
}

uint16_t half_sum(uint16_t a, uint16_t b) {
  return to_small(static_cast<double>(half_to_float(a) + half_to_float(b)), kHalf, Rounding::kNearest);
}

uint16_t brain_sum(uint16_t a, uint16_t b) {
  return float_to_brain(brain_to_float(a) + brain_to_float(b));
}

uint64_t float_sum(uint64_t a, uint64_t b, bool flushes) {
  const auto number = [flushes](uint64_t bits) {
    const float x = std::bit_cast<float>(static_cast<uint32_t>(bits));
    return flushes ? flush(x) : x;
  };
  const float sum = number(std::bit_cast<uint32_t>(number(a) + number(b)));
  return sum == sum ? std::bit_cast<uint32_t>(sum) : 0x7fffffffu;
}

template <class F>
uint64_t pair_sum(F sum, uint64_t a, uint64_t b) {
  const uint32_t low = sum(static_cast<uint16_t>(a), static_cast<uint16_t>(b));
  const uint32_t high = sum(static_cast<uint16_t>(a >> 16), static_cast<uint16_t>(b >> 16));
  return high << 16 | low;
}

}  // namespace

uint64_t atomic_result(AtomicKind kind, Type type, uint64_t old, uint64_t b, uint64_t c, bool flushes) {
  switch (type) {
    case Type::kS32:
      return integer_result<int32_t>(kind, old, b, c);
    case Type::kS64:
      return integer_result<int64_t>(kind, old, b, c);
    case Type::kU64:
    case Type::kB64:
      return integer_result<uint64_t>(kind, old, b, c);
    case Type::kB16:
      return integer_result<uint16_t>(kind, old, b, c);
    case Type::kF32:
      return float_sum(old, b, flushes);
    case Type::kF64:
      return std::bit_cast<uint64_t>(std::bit_cast<double>(old) + std::bit_cast<double>(b));
    case Type::kF16:
      return half_sum(static_cast<uint16_t>(old), static_cast<uint16_t>(b));
    case Type::kBf16:
      return brain_sum(static_cast<uint16_t>(old), static_cast<uint16_t>(b));
    case Type::kF16x2:
      return pair_sum(half_sum, old, b);
    case Type::kBf16x2:
      return pair_sum(brain_sum, old, b);
    default:
      return integer_result<uint32_t>(kind, old, b, c);
  }
}

}  // namespace kiln::emulator
