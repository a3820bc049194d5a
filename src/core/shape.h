// Tensor shapes: row-major extents, outermost first.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kiln {

using Shape = std::vector<int64_t>;

inline int64_t element_count(const Shape& shape) {
  int64_t n = 1;
  for (int64_t d : shape) n *= d;
  return n;
}

// "3 x 4"
inline std::string to_string(const Shape& shape) {
  std::string s;
  for (size_t i = 0; i < shape.size(); i++) s += (i ? " x " : "") + std::to_string(shape[i]);
  return s;
}

constexpr int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
constexpr int64_t round_up(int64_t a, int64_t multiple) {
  return ceil_div(a, multiple) * multiple;
}

}  // namespace kiln
