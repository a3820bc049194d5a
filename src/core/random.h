// Counter-based random numbers: value i of a stream is a pure function of (seed, stream, i), so the order in which
// values are drawn, the number of threads and of ranks never change them.
// Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
#pragma once

#include <array>
#include <cstdint>

namespace kiln {

class Random {
 public:
  Random(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}

  std::array<uint32_t, 4> block(uint64_t index) const;  // four independent 32-bit words
  double uniform(uint64_t index) const;                 // [0, 1), 53 bits
  double normal(uint64_t index) const;                  // mean 0, variance 1 (Box-Muller, fp64)

 private:
  uint64_t seed_, stream_;
};

// A bijection of [0, n) drawn by (seed, stream), evaluated one element at a time in constant memory: a Feistel
// network on the next power of four, walked until it falls inside [0, n).
class Permutation {
 public:
  Permutation(uint64_t n, uint64_t seed, uint64_t stream);  // n >= 1
  uint64_t operator()(uint64_t i) const;                    // i < n

 private:
  uint64_t n_;
  Random random_;
  int half_bits_;
};

// 64-bit FNV-1a: turns names into stream numbers.
constexpr uint64_t hash_name(const char* s) {
  uint64_t h = 0xcbf29ce484222325u;
  for (; *s; s++) h = (h ^ static_cast<unsigned char>(*s)) * 0x100000001b3u;
  return h;
}

}  // namespace kiln
