// The 16-bit floating-point formats as bits: exact conversions in all rounding modes.
#pragma once

#include <cmath>
#include <cstdint>

#include "tests/cuda_emulator/program.h"

namespace kiln::emulator {

// A binary format by its precision (with the hidden bit) and its smallest normal exponent.
struct SmallFormat {
  int precision, min_exponent, max_exponent;
  uint16_t infinity, nan;
};
constexpr SmallFormat kHalf{11, -14, 15, 0x7c00, 0x7fff};
constexpr SmallFormat kBrain{8, -126, 127, 0x7f80, 0x7fff};

// `x` in the format. Infinity and NaN keep their kinds; overflow gives infinity, or the largest number where the mode
// rounds towards zero from there.
uint16_t to_small(double x, const SmallFormat& format, Rounding rounding);

inline float brain_to_float(uint16_t bits) {
  return __builtin_bit_cast(float, uint32_t{bits} << 16);
}

// To nearest, ties to even, NaN to 0x7fff: the common case, as integer operations that vectorise.
inline uint16_t float_to_brain(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : rounded);
}

inline float half_to_float(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16, rest = bits & 0x7fffu;
  // Normal numbers: exponent and fraction move, the bias changes by 112; subnormal ones are multiples of 2^-24.
  const uint32_t normal = (rest << 13) + (112u << 23);
  // Infinity, and the one NaN that NVIDIA's own conversion gives for all.
  if (rest > 0x7c00u) return __builtin_bit_cast(float, 0x7fffffffu);
  const uint32_t special = 0x7f800000u;
  const float subnormal = static_cast<float>(static_cast<int32_t>(rest)) * 0x1p-24f;
  const uint32_t size = rest >= 0x7c00u ? special
                        : rest < 0x400u ? __builtin_bit_cast(uint32_t, subnormal)
                                        : normal;
  return __builtin_bit_cast(float, sign | size);
}

inline uint16_t float_to_half(float x) {
  return to_small(static_cast<double>(x), kHalf, Rounding::kNearest);
}

// a * b + c with one rounding, as a double that rounds to either small format correctly: where the sum is not exact,
// its last bit is set (rounding to odd), so that no second rounding can meet a tie. Products of 16-bit numbers are exact.
inline double fused_for_small(double a, double b, double c) {
  const double product = a * b, sum = product + c;
  const double back = sum - product;
  const double error = (product - (sum - back)) + (c - back);
  if (error == 0 || !std::isfinite(sum) || error != error) return sum;
  const uint64_t bits = __builtin_bit_cast(uint64_t, sum);
  if (bits & 1) return sum;
  const bool grows = (error > 0) == (sum > 0);
  return __builtin_bit_cast(double, grows ? bits + 1 : bits - 1);
}

}  // namespace kiln::emulator
