// GELU with tanh in fp64, straight from the definition.
#pragma once

#include <cmath>

namespace kiln::tests::reference {

inline double gelu(double x) {
  const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1 + std::tanh(u));
}

inline double gelu_derivative(double x) {
  const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  const double du = std::sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
  const double cosh = std::cosh(u);  // may be infinite: its inverse square is 0 then
  return 0.5 * (1 + std::tanh(u)) + 0.5 * x * du / cosh / cosh;
}

}  // namespace kiln::tests::reference
