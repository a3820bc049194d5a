// Matrices in device memory, read into and written from dense column-major fp32.
#pragma once

#include <library_types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/cuda_emulator/accesses.h"

namespace kiln::emulator {

// Element (i, j) lies i * row_step + j * column_step elements after the address; one of the steps is 1.
struct DeviceMatrix {
  uint64_t address = 0;
  cudaDataType type = CUDA_R_32F;
  int64_t rows = 0, columns = 0;
  int64_t row_step = 1, column_step = 0;

  DeviceMatrix transposed() const { return {address, type, columns, rows, column_step, row_step}; }
  DeviceMatrix moved(int64_t elements) const;
  size_t bytes() const;  // from the first to the end of the last element
};

std::vector<float> load(Accesses& accesses, const DeviceMatrix& matrix, Reading reading, const char* name);
void store(Accesses& accesses, const DeviceMatrix& matrix, const std::vector<float>& values,
           const char* name);
// Bytes of NaN.
void poison(Accesses& accesses, uint64_t address, size_t bytes, const char* name);

// a (m, k) times b (k, n), dense and column-major; products and sums in fp32.
std::vector<float> multiply(const std::vector<float>& a, const std::vector<float>& b, int64_t m, int64_t n,
                            int64_t k);

}  // namespace kiln::emulator
