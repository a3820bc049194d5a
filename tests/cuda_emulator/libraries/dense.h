// Column-major matrices of one type in device memory, or a triangle of them, read and written as they are.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "tests/cuda_emulator/accesses.h"

namespace kiln::emulator {

enum class Part { kAll, kLower, kUpper };  // triangles with the diagonal

struct DenseShape {
  int64_t rows = 0, columns = 0, ld = 0;
  Part part = Part::kAll;

  // The rows of a column that belong to the part.
  std::pair<int64_t, int64_t> rows_of(int64_t column) const {
    const int64_t first = part == Part::kLower ? std::min(column, rows) : 0;
    return {first, part == Part::kUpper ? std::min(column + 1, rows) : rows};
  }
  size_t bytes(size_t element) const { return static_cast<size_t>((columns - 1) * ld + rows) * element; }
};

// Dense (rows, columns); zero outside of the part.
template <class T>
std::vector<T> load_dense(Accesses& accesses, uint64_t address, const DenseShape& shape, Reading reading,
                          const char* name) {
  std::vector<T> values(static_cast<size_t>(shape.rows * shape.columns));
  for (int64_t j = 0; j < shape.columns; ++j) {
    const auto [first, last] = shape.rows_of(j);
    if (first == last) continue;
    const size_t bytes = static_cast<size_t>(last - first) * sizeof(T);
    const uint64_t from = address + static_cast<uint64_t>(j * shape.ld + first) * sizeof(T);
    std::memcpy(values.data() + j * shape.rows + first, accesses.read(from, bytes, reading, name), bytes);
  }
  return values;
}

template <class T>
void store_dense(Accesses& accesses, uint64_t address, const DenseShape& shape, const std::vector<T>& values,
                 const char* name) {
  for (int64_t j = 0; j < shape.columns; ++j) {
    const auto [first, last] = shape.rows_of(j);
    if (first == last) continue;
    const size_t bytes = static_cast<size_t>(last - first) * sizeof(T);
    const uint64_t to = address + static_cast<uint64_t>(j * shape.ld + first) * sizeof(T);
    std::memcpy(accesses.write(to, bytes, name), values.data() + j * shape.rows + first, bytes);
  }
}

}  // namespace kiln::emulator
