// Vectors of floats as wide as the instruction set that is being compiled (GCC vector extensions), loops over
// arrays in such vectors, and the exponential. Everything lives in the variant's own namespace.
#pragma once

#include <cstdint>

#include "kernels/cpu/kernels.h"

namespace kiln::kernels::cpu::KILN_ISA {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
#elif defined(__AVX2__)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t IntVec __attribute__((vector_size(kLanes * 4)));
typedef float HalfVec __attribute__((vector_size(kLanes * 2)));         // kLanes / 2 floats
typedef double HalfDoubleVec __attribute__((vector_size(kLanes * 4)));  // kLanes / 2 doubles

namespace detail {
typedef float UnalignedVec __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef float UnalignedHalfVec __attribute__((vector_size(kLanes * 2), aligned(4), may_alias));
}  // namespace detail

inline Vec load(const float* p) {
  return *reinterpret_cast<const detail::UnalignedVec*>(p);
}
inline HalfVec load_half(const float* p) {
  return *reinterpret_cast<const detail::UnalignedHalfVec*>(p);
}
inline void store(float* p, Vec v) {
  *reinterpret_cast<detail::UnalignedVec*>(p) = v;
}
inline Vec broadcast(float x) {
  return x - Vec{};
}

// The first n < kLanes elements; the other lanes are `rest`.
inline Vec load_partial(const float* p, int64_t n, float rest = 0.0f) {
  Vec v = broadcast(rest);
  for (int64_t i = 0; i < n; i++) v[i] = p[i];
  return v;
}
inline void store_partial(float* p, Vec v, int64_t n) {
  for (int64_t i = 0; i < n; i++) p[i] = v[i];
}

// Where in arrays the lanes of a vector lie: a whole vector, or the ragged rest of count < kLanes elements.
struct Whole {
  int64_t at;
  Vec load(const float* p, float /*rest*/ = 0.0f) const { return KILN_ISA::load(p + at); }
  void store(float* p, Vec v) const { KILN_ISA::store(p + at, v); }
};
struct Rest {
  int64_t at, count;
  Vec load(const float* p, float rest = 0.0f) const { return load_partial(p + at, count, rest); }
  void store(float* p, Vec v) const { store_partial(p + at, v, count); }
};

// body(Whole) for each whole vector of elements [begin, end), then body(Rest) for what remains.
template <class Body>
inline void for_vectors(int64_t begin, int64_t end, Body body) {
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) body(Whole{i});
  if (i < end) body(Rest{i, end - i});
}

// A NaN in the second argument wins, one in the first does not.
inline Vec min(Vec a, Vec b) {
  return a < b ? a : b;
}
inline Vec max(Vec a, Vec b) {
  return a > b ? a : b;
}

// Sums and maxima over lanes, always in the same order: halves are combined until one lane remains.
namespace detail {
template <int kWidth>
struct Vector {
  typedef float type __attribute__((vector_size(kWidth * 4)));
};
template <int kWidth, class Combine>
inline float fold(typename Vector<kWidth>::type v, Combine combine) {
  if constexpr (kWidth == 2) {
    return combine(v[0], v[1]);
  } else {
    typename Vector<kWidth / 2>::type halves[2];
    __builtin_memcpy(halves, &v, sizeof v);
    return fold<kWidth / 2>(combine(halves[0], halves[1]), combine);
  }
}
}  // namespace detail
inline float sum(Vec v) {
  return detail::fold<kLanes>(v, [](auto a, auto b) { return a + b; });
}
inline float max_element(Vec v) {
  return detail::fold<kLanes>(v, [](auto a, auto b) { return a > b ? a : b; });
}

inline Vec sqrt(Vec v) {
  Vec root;
  for (int i = 0; i < kLanes; i++) root[i] = __builtin_sqrtf(v[i]);
  return root;
}

// e^x within 2 ulp: x = n ln 2 + r with |r| <= ln 2 / 2, then 2^(n-1) times twice the Taylor polynomial of
// degree 7 in r (remainder below 2^-26 of the value). Results of 2^-125.5 and less become 0 (they are
// denormal, or nearly), x above ln(FLT_MAX) = 88.72 gives infinity, NaN stays NaN.
inline Vec exp(Vec x) {
  // Clamping keeps n within -126 .. 128, so that the exponent field n - 1 + 127 below lies in 0 .. 254 (0
  // stands for the power 0, denormals having no other); NaN passes both.
  const Vec clamped = min(broadcast(89.0f), max(broadcast(-87.3f), x));
  // Adding 1.5 * 2^23 rounds to an integer, which the low bits of the sum hold in two's complement; the
  // further 126 are the bias of an exponent field, less one.
  const Vec kMagic = broadcast(12582912.0f + 126.0f);
  const Vec shifted = clamped * broadcast(1.44269504088896341f) + kMagic;
  const Vec n = shifted - kMagic;
  Vec r =
      clamped - n * broadcast(0.693359375f);  // ln 2 in two pieces: the product with n is exact in the first
  r = r - n * broadcast(-2.12194440054690583e-4f);
  Vec p = broadcast(2.0f / 5040.0f);
  p = p * r + broadcast(2.0f / 720.0f);
  p = p * r + broadcast(2.0f / 120.0f);
  p = p * r + broadcast(2.0f / 24.0f);
  p = p * r + broadcast(2.0f / 6.0f);
  p = p * r + broadcast(1.0f);
  p = p * r + broadcast(2.0f);
  p = p * r + broadcast(2.0f);
  const Vec scale = reinterpret_cast<Vec>(reinterpret_cast<IntVec>(shifted) << 23);
  return p * scale;
}

}  // namespace kiln::kernels::cpu::KILN_ISA
