#include "data/sampler.h"

#include "src/core/error.h"

namespace kiln::data {

Sampler::Sampler(int64_t windows, uint64_t seed) : windows_(windows), seed_(seed) {
  require(windows >= 1, "a sampler needs at least one window");
}

int64_t Sampler::window(int64_t sample) {
  require(sample >= 0, "samples are numbered from 0");
  if (epoch(sample) != epoch_) {
    epoch_ = epoch(sample);
    permutation_.emplace(static_cast<uint64_t>(windows_), seed_,
                         hash_name("sampler") + static_cast<uint64_t>(epoch_));
  }
  return static_cast<int64_t>((*permutation_)(static_cast<uint64_t>(sample % windows_)));
}

}  // namespace kiln::data
