#include "tests/cuda_emulator/small_floats.h"

namespace kiln::emulator {

uint16_t to_small(double x, const SmallFormat& format, Rounding rounding) {
  const uint64_t bits = __builtin_bit_cast(uint64_t, x);
  const bool negative = bits >> 63;
  const uint16_t sign = negative ? 0x8000 : 0;
  if (x != x) return format.nan;
  if (std::isinf(x)) return static_cast<uint16_t>(sign | format.infinity);
  if (x == 0) return sign;
  int exponent = std::ilogb(x);
  if (exponent < format.min_exponent) exponent = format.min_exponent;
  // In units of the last place the number is `scaled`, exactly; what it becomes depends on the part after the point.
  const int fraction_bits = format.precision - 1;
  const double scaled = std::ldexp(std::fabs(x), fraction_bits - exponent);
  const double whole = std::floor(scaled), rest = scaled - whole;
  const bool odd = std::fmod(whole, 2) == 1;
  bool up = false;
  switch (rounding) {
    case Rounding::kNearest:
      up = rest > 0.5 || (rest == 0.5 && odd);
      break;
    case Rounding::kZero:
      up = false;
      break;
    case Rounding::kDown:
      up = negative && rest > 0;
      break;
    case Rounding::kUp:
      up = !negative && rest > 0;
      break;
    case Rounding::kAway:
      up = rest >= 0.5;
      break;
  }
  // Adding the fraction to the biased exponent carries into it where the fraction overflows, as subnormals do.
  const uint64_t units = static_cast<uint64_t>(whole) + (up ? 1 : 0);
  const uint64_t biased = static_cast<uint64_t>(exponent - format.min_exponent) << fraction_bits;
  const uint64_t result = biased + units;
  if (result >= format.infinity) {
    const bool saturates = rounding == Rounding::kZero || (rounding == Rounding::kDown && !negative) ||
                           (rounding == Rounding::kUp && negative);
    return static_cast<uint16_t>(sign | (saturates ? format.infinity - 1 : format.infinity));
  }
  return static_cast<uint16_t>(sign | result);
}

}  // namespace kiln::emulator
