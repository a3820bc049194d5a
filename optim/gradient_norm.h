// The Euclidean norm of all gradients together, and clipping by it.
#pragma once

#include "src/device/context.h"
#include "src/device/parameters.h"

namespace kiln::optim {

class GradientNorm {
 public:
  // Plans one double per parameter, then points into the arena.
  void plan(Plan& plan, const ParameterTable& parameters);
  void bind(const Arena& arena) { partials_ = arena.at<double>(buffer_); }

  // sqrt(sum of squares), in fp64: per parameter by the kernel, then in the table's order, so that neither
  // threads nor the way parameters are batched change a bit of it. Infinite or NaN if any element is: the
  // caller then skips the step. In a dry run it is 0.
  double compute(Context& context, const ParameterTable& parameters) const;

 private:
  BufferId buffer_ = -1;
  double* partials_ = nullptr;
};

// What clipping multiplies the gradients by: min(1, clip / norm); 1 if clip is 0. `norm` must be finite.
double clip_scale(double norm, double clip);

}  // namespace kiln::optim
