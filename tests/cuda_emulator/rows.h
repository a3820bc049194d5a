// Loops over the 32 elements of rows, which the compiler turns into vector instructions. Included by the alu_*.cpp only.
#pragma once

#include <bit>
#include <cstring>
#include <type_traits>

#include "tests/cuda_emulator/program.h"

namespace kiln::emulator {

template <class T>
T* row(Registers registers, uint32_t offset) {
  return static_cast<T*>(__builtin_assume_aligned(registers + offset, 64));
}

// .ftz: a subnormal number becomes the zero of its sign.
inline float flush(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  return (bits & 0x7f800000u) == 0 ? std::bit_cast<float>(bits & 0x80000000u) : x;
}

// A predicate, bit L of lane L.
inline uint32_t& mask_row(Registers registers, uint32_t offset) {
  return *reinterpret_cast<uint32_t*>(registers + offset);
}

// The destination may be one of the sources, element by element: hence ivdep.
template <class F, class D, class A>
void map1(Registers r, const Op& op, uint32_t) {
  D* d = row<D>(r, op.d);
  const A* a = row<const A>(r, op.a);
#pragma GCC ivdep
  for (int l = 0; l < kLanes; ++l) d[l] = F{}(a[l]);
}

template <class F, class D, class A, class B>
void map2(Registers r, const Op& op, uint32_t) {
  D* d = row<D>(r, op.d);
  const A* a = row<const A>(r, op.a);
  const B* b = row<const B>(r, op.b);
#pragma GCC ivdep
  for (int l = 0; l < kLanes; ++l) d[l] = F{}(a[l], b[l]);
}

template <class F, class D, class A, class B, class C>
void map3(Registers r, const Op& op, uint32_t) {
  D* d = row<D>(r, op.d);
  const A* a = row<const A>(r, op.a);
  const B* b = row<const B>(r, op.b);
  const C* c = row<const C>(r, op.c);
#pragma GCC ivdep
  for (int l = 0; l < kLanes; ++l) d[l] = F{}(a[l], b[l], c[l]);
}

template <class D, class A, class F>
constexpr AluFunction unary(F) {
  return map1<F, D, A>;
}

template <class D, class A, class B, class F>
constexpr AluFunction binary(F) {
  return map2<F, D, A, B>;
}

template <class D, class A, class B, class C, class F>
constexpr AluFunction ternary(F) {
  return map3<F, D, A, B, C>;
}

// The lanes whose two elements compare true.
template <class F, class A>
uint32_t compare_rows(Registers r, const Op& op) {
  const A* a = row<const A>(r, op.a);
  const A* b = row<const A>(r, op.b);
  uint32_t result = 0;
#pragma GCC ivdep
  for (int l = 0; l < kLanes; ++l) result |= (F{}(a[l], b[l]) ? uint32_t{1} : uint32_t{0}) << l;
  return result;
}

// Calls `choose` with a value of the type that integers of `type` are computed in; nothing for other types.
template <class Choose>
AluFunction for_integer(Type type, Choose choose) {
  switch (type) {
    case Type::kS16:
      return choose(int16_t{});
    case Type::kU16:
    case Type::kB16:
      return choose(uint16_t{});
    case Type::kS32:
      return choose(int32_t{});
    case Type::kU32:
    case Type::kB32:
      return choose(uint32_t{});
    case Type::kS64:
      return choose(int64_t{});
    case Type::kU64:
    case Type::kB64:
      return choose(uint64_t{});
    default:
      return nullptr;
  }
}

// The same where signs do not matter.
template <class Choose>
AluFunction for_unsigned(Type type, Choose choose) {
  switch (bytes_of(type)) {
    case 2:
      return choose(uint16_t{});
    case 4:
      return choose(uint32_t{});
    case 8:
      return choose(uint64_t{});
    default:
      return nullptr;
  }
}

}  // namespace kiln::emulator
