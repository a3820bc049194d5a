// One multiplication through cuBLASLt's own entry points, with everything that a test may want to get wrong.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/cuda_emulator/tests/device_array.h"

namespace kiln::emulator::testing {

// Host values, rounded to the type they are stored in, and the device memory that holds them.
class TypedArray {
 public:
  TypedArray(cudaDataType type, size_t count);  // never written
  TypedArray(cudaDataType type, const std::vector<float>& values);
  void* data();
  std::vector<float> read() const;
  const std::vector<float>& values() const { return values_; }

 private:
  cudaDataType type_;
  std::vector<float> values_;
  std::unique_ptr<DeviceArray<float>> floats_;
  std::unique_ptr<DeviceArray<uint16_t>> halves_;
};

float to_type(float value, cudaDataType type);
std::vector<float> random_values(std::mt19937& random, size_t count);

struct LtShape {
  int64_t m = 5, n = 7, k = 3;
  bool a_transposed = false, b_transposed = false;
  bool by_rows = false;        // all matrices row-major
  int64_t padding = 0;         // of every leading dimension
  int64_t count = 1, gap = 0;  // of a batch, and elements between its matrices
  cudaDataType in = CUDA_R_32F, out = CUDA_R_32F;

  int64_t a_rows() const { return a_transposed ? k : m; }
  int64_t a_columns() const { return a_transposed ? m : k; }
  int64_t b_rows() const { return b_transposed ? n : k; }
  int64_t b_columns() const { return b_transposed ? k : n; }
  int64_t ld(int64_t rows, int64_t columns) const { return (by_rows ? columns : rows) + padding; }
  int64_t elements(int64_t rows, int64_t columns) const {
    return ld(rows, columns) * (by_rows ? rows : columns);
  }
  int64_t stride(int64_t rows, int64_t columns) const { return elements(rows, columns) + gap; }
  size_t index(int64_t rows, int64_t columns, int64_t batch, int64_t i, int64_t j) const;
};

// Descriptors for a shape; a test changes what it likes before `run`.
class LtMatmul {
 public:
  explicit LtMatmul(const LtShape& shape);
  ~LtMatmul();
  LtMatmul(const LtMatmul&) = delete;
  LtMatmul& operator=(const LtMatmul&) = delete;

  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, T value) {
    cublasLtMatmulDescSetAttribute(description, attribute, &value, sizeof value);
  }
  template <class T>
  void set(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute, T value) {
    cublasLtMatrixLayoutSetAttribute(layout, attribute, &value, sizeof value);
  }
  template <class T>
  void prefer(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value);
  }
  cublasStatus_t choose();  // asks the heuristic
  // With the algorithm of the heuristic and a workspace of its own.
  cublasStatus_t run(const void* a_data, const void* b_data, const void* c_data, void* d_data,
                     cudaStream_t stream = nullptr);

  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t description = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr, d = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulHeuristicResult_t chosen{};
  float alpha = 1, beta = 0;
  const void* alpha_pointer = &alpha;
  const void* beta_pointer = &beta;
  DeviceArray<char> workspace{1 << 17};
  size_t workspace_bytes = 1 << 17;
};

}  // namespace kiln::emulator::testing
