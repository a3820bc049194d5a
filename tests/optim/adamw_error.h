// How far AdamW in fp32 may lie from the reference.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "tests/optim/reference_adamw.h"
#include "tests/optim/support.h"

namespace kiln::tests {

// Running error analysis (Higham, "Accuracy and stability of numerical algorithms", section 3.3): how far
// fp32 may lie from the reference after each step, to first order in u. An average keeps b of its old error
// and adds a rounding for each of: the scale, the scaled gradient, b or 1-b, the product, the sum (and for
// the square the first two again, and another product). The update adds the correction, root, quotient, eps,
// rate and product; the weight the factor 1 - lr wd, its product and the difference.
struct AdamWErrorBound {
  std::vector<double> m, v, w;

  // `after` and `weights`: the reference behind the step; g: the gradients of the step.
  void step(const ReferenceAdamW& after, const std::vector<double>& weights, const std::vector<double>& g,
            double rate, double gradient_scale) {
    m.resize(g.size()), v.resize(g.size()), w.resize(g.size());
    const double correct1 = 1 - std::pow(after.b1, after.t), correct2 = 1 - std::pow(after.b2, after.t);
    for (size_t i = 0; i < g.size(); i++) {
      const double fresh = std::abs(gradient_scale * g[i]);
      const double kept_m = std::abs(after.m[i] - (1 - after.b1) * gradient_scale * g[i]);
      m[i] = after.b1 * m[i] + 5 * kUnit * (kept_m + (1 - after.b1) * fresh);
      v[i] = after.b2 * v[i] + 8 * kUnit * after.v[i];
      if (after.v[i] > 0) {  // otherwise it never had a gradient, and all this is exactly zero
        const double denominator = std::sqrt(after.v[i] / correct2) + after.eps;
        const double update = std::abs(after.m[i]) / correct1 / denominator;
        w[i] += rate * (m[i] / correct1 / denominator + update * (v[i] / (2 * after.v[i]) + 8 * kUnit));
      }
      w[i] += 4 * kUnit * std::abs(weights[i]);
    }
  }
};

}  // namespace kiln::tests
