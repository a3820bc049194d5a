// AdamW of one parameter in fp64, straight from the paper's algorithm 2 with the schedule multiplier inside
// lr.
#pragma once

#include <cmath>
#include <cstdint>

namespace kiln::tests::reference {

struct AdamW {
  double param, m, v;
};

inline AdamW adamw_step(AdamW state, double gradient, int64_t t, double lr, double b1, double b2, double eps,
                        double weight_decay) {
  state.m = b1 * state.m + (1 - b1) * gradient;
  state.v = b2 * state.v + (1 - b2) * gradient * gradient;
  const double m_hat = state.m / (1 - std::pow(b1, static_cast<double>(t)));
  const double v_hat = state.v / (1 - std::pow(b2, static_cast<double>(t)));
  state.param -= lr * weight_decay * state.param + lr * m_hat / (std::sqrt(v_hat) + eps);
  return state;
}

}  // namespace kiln::tests::reference
