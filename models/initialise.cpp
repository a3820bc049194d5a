#include "models/initialise.h"

#include <algorithm>

#include "src/core/random.h"

namespace kiln::models {

void fill_constant(const Parameter& parameter, float value) {
  std::fill_n(parameter.master, parameter.elements(), value);
}

void fill_normal(Context& context, const Parameter& parameter, int64_t count, double deviation,
                 uint64_t seed) {
  constexpr int64_t kGrain = 4096;
  const Random random(seed, hash_name(parameter.name.c_str()));
  float* out = parameter.master;
  context.pool->parallel_for(parameter.elements(), kGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) {
      out[i] = i < count ? static_cast<float>(deviation * random.normal(static_cast<uint64_t>(i))) : 0.0f;
    }
  });
}

}  // namespace kiln::models
