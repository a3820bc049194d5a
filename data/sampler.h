// Which window comes when. The whole state is one integer, the number of samples drawn so far; each epoch
// visits every window once in an order drawn from (seed, epoch), the same on every rank.
#pragma once

#include <cstdint>
#include <optional>

#include "src/core/random.h"

namespace kiln::data {

class Sampler {
 public:
  Sampler(int64_t windows, uint64_t seed);  // windows >= 1

  // The window of sample number `sample` (0, 1, 2, ... over the whole run, all ranks together).
  int64_t window(int64_t sample);
  int64_t epoch(int64_t sample) const { return sample / windows_; }

 private:
  int64_t windows_;
  uint64_t seed_;
  int64_t epoch_ = -1;  // of permutation_
  std::optional<Permutation> permutation_;
};

}  // namespace kiln::data
