// Orthogonalisation by the Newton-Schulz iteration: matrix products only.
#pragma once

#include <array>
#include <string_view>

#include "kernels/matrix.h"
#include "src/device/context.h"

namespace kiln::optim {

// X <- a X + (b A + c A A) X with A = X X^T, once for each (a, b, c), from X = N / (safety ||N||_F + 1e-7).
struct NewtonSchulzSet {
  std::string_view name;
  double safety;
  std::array<std::array<double, 3>, 5> steps;
};

// "jordan" or "polar_express".
const NewtonSchulzSet& newton_schulz_set(std::string_view name);

// Replaces singular values by numbers around 1: out ~ polar(x). x and out are (rows, cols), dense, and
// distinct; x is overwritten. `factors`: what factors of products are rounded to; sums are fp32.
void newton_schulz(Context& context, kernels::Matrices out, kernels::Matrices x, int64_t count, int64_t rows,
                   int64_t cols, const NewtonSchulzSet& set, DType factors);

}  // namespace kiln::optim
