#include "tests/cuda_emulator/libraries/matrices.h"

#include <cblas.h>

#include <bit>
#include <cstring>

#include "tests/cuda_emulator/libraries/blas_common.h"

namespace kiln::emulator {

namespace {

// Other tests run beside this one, and results do not depend on the machine's cores.
[[maybe_unused]] const bool one_thread = [] {
  openblas_set_num_threads(1);
  return true;
}();

float from_bf16(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

// To the nearest, ties to even.
uint16_t to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float element(const std::byte* at, cudaDataType type) {
  if (type == CUDA_R_32F) {
    float value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return from_bf16(bits);
}

void put_element(std::byte* at, cudaDataType type, float value) {
  if (type == CUDA_R_32F) {
    std::memcpy(at, &value, sizeof value);
    return;
  }
  const uint16_t bits = to_bf16(value);
  std::memcpy(at, &bits, sizeof bits);
}

// The pieces of consecutive elements that a matrix consists of: calls body(address, elements, first row, first column,
// whether along a column).
template <class Body>
void for_each_piece(const DeviceMatrix& o, Body body) {
  const int64_t size = static_cast<int64_t>(element_bytes(o.type));
  const bool along_column = o.row_step == 1;
  const int64_t length = along_column ? o.rows : o.columns, pieces = along_column ? o.columns : o.rows;
  const int64_t step = along_column ? o.column_step : o.row_step;
  for (int64_t piece = 0; piece < pieces; ++piece) {
    body(o.address + static_cast<uint64_t>(piece * step * size), length, along_column ? 0 : piece,
         along_column ? piece : 0, along_column);
  }
}

}  // namespace

DeviceMatrix DeviceMatrix::moved(int64_t elements) const {
  DeviceMatrix other = *this;
  other.address += static_cast<uint64_t>(elements) * element_bytes(type);
  return other;
}

size_t DeviceMatrix::bytes() const {
  if (rows == 0 || columns == 0) return 0;
  return static_cast<size_t>((rows - 1) * row_step + (columns - 1) * column_step + 1) * element_bytes(type);
}

std::vector<float> load(Accesses& accesses, const DeviceMatrix& matrix, Reading reading, const char* name) {
  std::vector<float> values(static_cast<size_t>(matrix.rows * matrix.columns));
  const size_t size = element_bytes(matrix.type);
  for_each_piece(
      matrix, [&](uint64_t address, int64_t length, int64_t row, int64_t column, bool along_column) {
        const std::byte* from = accesses.read(address, static_cast<size_t>(length) * size, reading, name);
        float* to = values.data() + row + column * matrix.rows;
        const int64_t step = along_column ? 1 : matrix.rows;
        for (int64_t i = 0; i < length; ++i)
          to[i * step] = element(from + static_cast<size_t>(i) * size, matrix.type);
      });
  return values;
}

void store(Accesses& accesses, const DeviceMatrix& matrix, const std::vector<float>& values,
           const char* name) {
  const size_t size = element_bytes(matrix.type);
  for_each_piece(matrix,
                 [&](uint64_t address, int64_t length, int64_t row, int64_t column, bool along_column) {
                   std::byte* to = accesses.write(address, static_cast<size_t>(length) * size, name);
                   const float* from = values.data() + row + column * matrix.rows;
                   const int64_t step = along_column ? 1 : matrix.rows;
                   for (int64_t i = 0; i < length; ++i)
                     put_element(to + static_cast<size_t>(i) * size, matrix.type, from[i * step]);
                 });
}

void poison(Accesses& accesses, uint64_t address, size_t bytes, const char* name) {
  if (bytes > 0) std::memset(accesses.write(address, bytes, name), 0xff, bytes);
}

std::vector<float> multiply(const std::vector<float>& a, const std::vector<float>& b, int64_t m, int64_t n,
                            int64_t k) {
  std::vector<float> out(static_cast<size_t>(m * n));
  const int rows = static_cast<int>(m), columns = static_cast<int>(n), depth = static_cast<int>(k);
  if (rows == 0 || columns == 0 || depth == 0) return out;
  cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, rows, columns, depth, 1, a.data(), rows, b.data(),
              depth, 0, out.data(), rows);
  return out;
}

}  // namespace kiln::emulator
