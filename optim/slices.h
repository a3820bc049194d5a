// Parts of a batch small enough for their temporaries, with pointer tables as kernels take them.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "optim/optimizer.h"
#include "src/device/scratch.h"

namespace kiln::optim {

struct Slice {
  static constexpr size_t kMostState = 8;

  int64_t rows, cols, ld;
  int64_t count;
  const std::string** names;
  float** param;
  const float** grad;
  std::array<float**, kMostState> state;  // by StateSpec
};

// What the temporaries of one slice may take. The more matrices share a call the fewer calls there are;
// beyond some tens of megabytes that no longer helps.
inline constexpr int64_t kSliceBytes = int64_t{64} << 20;

// Calls body(Slice) until every matrix k with wanted(k) was in a slice; in a dry run, all of them. `bytes`:
// what the body takes for each matrix, roughly.
template <class Wanted, class Body>
void for_slices(Context& context, const MatrixBatch& batch, int64_t bytes, Wanted wanted, Body body) {
  const int64_t most =
      std::clamp<int64_t>(kSliceBytes / std::max<int64_t>(bytes, 1), 1, std::max<int64_t>(batch.count(), 1));
  for (int64_t next = 0; next < batch.count();) {
    Scratch scratch(context);
    Slice slice{};
    slice.rows = batch.rows, slice.cols = batch.cols, slice.ld = batch.ld;
    slice.names = scratch.take<const std::string*>(most);
    slice.param = scratch.take<float*>(most);
    slice.grad = scratch.take<const float*>(most);
    for (size_t i = 0; i < batch.state.size(); i++) slice.state[i] = scratch.take<float*>(most);
    for (; next < batch.count() && slice.count < most; next++) {
      if (context.dry_run) {
        slice.count++;
        continue;
      }
      if (!wanted(next)) continue;
      const auto k = static_cast<size_t>(next);
      slice.names[slice.count] = &batch.names[k];
      slice.param[slice.count] = batch.param[k];
      slice.grad[slice.count] = batch.grad[k];
      for (size_t i = 0; i < batch.state.size(); i++) slice.state[i][slice.count] = batch.state[i][k];
      slice.count++;
    }
    if (slice.count > 0) body(slice);
  }
}

}  // namespace kiln::optim
