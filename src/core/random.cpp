#include "src/core/random.h"

#include <cmath>

namespace kiln {

std::array<uint32_t, 4> Random::block(uint64_t index) const {
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  uint32_t c0 = static_cast<uint32_t>(index), c1 = static_cast<uint32_t>(index >> 32);
  uint32_t c2 = static_cast<uint32_t>(stream_), c3 = static_cast<uint32_t>(stream_ >> 32);
  uint32_t k0 = static_cast<uint32_t>(seed_), k1 = static_cast<uint32_t>(seed_ >> 32);
  for (int round = 0; round < 10; round++) {
    const uint64_t p0 = kMultiplier0 * c0, p1 = kMultiplier1 * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0,
                   n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
  return {c0, c1, c2, c3};
}

namespace {

double unit(uint32_t high, uint32_t low) {
  return static_cast<double>((static_cast<uint64_t>(high) << 32 | low) >> 11) * 0x1p-53;
}

}  // namespace

double Random::uniform(uint64_t index) const {
  const auto w = block(index);
  return unit(w[0], w[1]);
}

double Random::normal(uint64_t index) const {
  const auto w = block(index);
  const double u = 1.0 - unit(w[0], w[1]);  // (0, 1]: its logarithm is finite
  const double angle = 2.0 * 3.14159265358979323846 * unit(w[2], w[3]);
  return std::sqrt(-2.0 * std::log(u)) * std::cos(angle);
}

Permutation::Permutation(uint64_t n, uint64_t seed, uint64_t stream)
    : n_(n), random_(seed, stream), half_bits_(1) {
  while (half_bits_ < 32 && (uint64_t{1} << (2 * half_bits_)) < n) half_bits_++;
}

uint64_t Permutation::operator()(uint64_t i) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  do {
    uint64_t left = i >> half_bits_, right = i & mask;
    for (uint64_t round = 0; round < 6; round++) {
      const auto w = random_.block(round << 32 | right);
      const uint64_t mixed = left ^ (w[0] & mask);
      left = right;
      right = mixed;
    }
    i = left << half_bits_ | right;
  } while (i >= n_);
  return i;
}

}  // namespace kiln
