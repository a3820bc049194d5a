// AdamW in fp64, element by element, as the paper's algorithm 2 (arXiv 1711.05101) writes it with the decay
// scaled by the learning rate. Shares nothing with optim/ or kernels/.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

namespace kiln::tests {

struct ReferenceAdamW {
  double lr, b1, b2, eps, wd;
  std::vector<double> m, v;
  int t = 0;

  void step(std::vector<double>& w, const std::vector<double>& g, double lr_multiplier = 1,
            double gradient_scale = 1) {
    if (m.empty()) m.assign(w.size(), 0), v.assign(w.size(), 0);
    t++;
    const double rate = lr * lr_multiplier;
    for (size_t i = 0; i < w.size(); i++) {
      const double gradient = gradient_scale * g[i];
      m[i] = b1 * m[i] + (1 - b1) * gradient;
      v[i] = b2 * v[i] + (1 - b2) * gradient * gradient;
      const double m_hat = m[i] / (1 - std::pow(b1, t));
      const double v_hat = v[i] / (1 - std::pow(b2, t));
      w[i] = w[i] - rate * wd * w[i] - rate * m_hat / (std::sqrt(v_hat) + eps);
    }
  }
};

}  // namespace kiln::tests
