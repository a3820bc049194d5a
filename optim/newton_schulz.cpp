#include "optim/newton_schulz.h"

#include <algorithm>

#include "kernels/table.h"
#include "src/core/error.h"
#include "src/device/scratch.h"

namespace kiln::optim {
namespace {

// Keller Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024): one polynomial that
// takes singular values from 2e-3 of the norm on into about [0.68, 1.20] in five steps.
constexpr NewtonSchulzSet kJordan{"jordan",
                                  1.0,
                                  {{{3.4445, -4.7750, 2.0315},
                                    {3.4445, -4.7750, 2.0315},
                                    {3.4445, -4.7750, 2.0315},
                                    {3.4445, -4.7750, 2.0315},
                                    {3.4445, -4.7750, 2.0315}}}};

// Amsel, Persson, Musco, Gower, "The Polar Express" (arXiv 2505.16932): another polynomial for each step.
constexpr NewtonSchulzSet kPolarExpress{"polar_express",
                                        1.02,
                                        {{{8.156554525, -22.483292926, 15.878769915},
                                          {4.042929935, -2.808917466, 0.500017845},
                                          {3.891667802, -2.772484153, 0.506064818},
                                          {3.285753658, -2.368129493, 0.464490242},
                                          {2.346541326, -1.709782838, 0.423235512}}}};

}  // namespace

const NewtonSchulzSet& newton_schulz_set(std::string_view name) {
  for (const NewtonSchulzSet* set : {&kJordan, &kPolarExpress}) {
    if (set->name == name) return *set;
  }
  throw Error(ExitCode::usage, fmt::format("unknown Newton-Schulz coefficients \"{}\"", name),
              "jordan or polar_express");
}

void newton_schulz(Context& context, kernels::Matrices out, kernels::Matrices x, int64_t count, int64_t rows,
                   int64_t cols, const NewtonSchulzSet& set, DType factors) {
  // A = X X^T is smallest when X is wide: a tall matrix is transposed on the way in and out.
  const bool tall = rows > cols;
  const int64_t p = std::min(rows, cols), q = std::max(rows, cols);
  Scratch scratch(context);
  float* const* square = scratch.matrices(count, p * p);      // A
  float* const* polynomial = scratch.matrices(count, p * p);  // b A + c A A
  kernels::Matrices from = tall ? scratch.matrices(count, p * q) : x;
  kernels::Matrices to = tall ? x : out;
  kernels::matrix_normalise(context, {.out = from,
                                      .x = x,
                                      .count = count,
                                      .rows = p,
                                      .cols = q,
                                      .safety = set.safety,
                                      .x_transposed = tall});
  for (const auto& [a, b, c] : set.steps) {
    kernels::matrix_product(context, {.out = square,
                                      .a = from,
                                      .b = from,
                                      .count = count,
                                      .M = p,
                                      .N = p,
                                      .K = q,
                                      .b_transposed = true,
                                      .symmetric = true,
                                      .dtype = factors});
    kernels::matrix_product(context, {.out = polynomial,
                                      .a = square,
                                      .b = square,
                                      .add = square,
                                      .count = count,
                                      .M = p,
                                      .N = p,
                                      .K = p,
                                      .b_transposed = true,  // it is symmetric: this side is packed faster
                                      .symmetric = true,
                                      .alpha = c,
                                      .beta = b,
                                      .dtype = factors});
    kernels::matrix_product(context, {.out = to,
                                      .a = polynomial,
                                      .b = from,
                                      .add = from,
                                      .count = count,
                                      .M = p,
                                      .N = q,
                                      .K = p,
                                      .alpha = 1,
                                      .beta = a,
                                      .dtype = factors});
    std::swap(from, to);
  }
  static_assert(std::tuple_size_v<decltype(set.steps)> % 2 == 1, "the last step must end in `out`");
  if (tall) {
    kernels::matrix_combine(
        context, {.out = out, .x = from, .count = count, .rows = rows, .cols = cols, .x_transposed = true});
  }
}

}  // namespace kiln::optim
