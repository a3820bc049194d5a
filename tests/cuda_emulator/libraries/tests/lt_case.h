// A call of cublasLtMatmul that is right, until a test spoils it.
#pragma once

#include <memory>
#include <random>

#include "tests/cuda_emulator/libraries/tests/lt_harness.h"

namespace kiln::emulator::testing {

struct LtCase {
  explicit LtCase(const LtShape& asked = {}) : shape(asked), random(1), matmul(shape) {
    a = filled(shape.in, shape.a_rows(), shape.a_columns());
    b = filled(shape.in, shape.b_rows(), shape.b_columns());
    c = filled(shape.out, shape.m, shape.n);
    d = filled(shape.out, shape.m, shape.n);
    a_data = a->data();
    b_data = b->data();
    c_data = c->data();
    d_data = d->data();
  }
  std::unique_ptr<TypedArray> filled(cudaDataType type, int64_t rows, int64_t columns) {
    return std::make_unique<TypedArray>(
        type, random_values(random, static_cast<size_t>(shape.count * shape.stride(rows, columns))));
  }
  cublasStatus_t run() { return matmul.run(a_data, b_data, c_data, d_data, stream); }
  cublasStatus_t choose_and_run() {
    const cublasStatus_t status = matmul.choose();
    return status == CUBLAS_STATUS_SUCCESS ? run() : status;
  }

  LtShape shape;
  std::mt19937 random;
  LtMatmul matmul;
  std::unique_ptr<TypedArray> a, b, c, d;
  void *a_data, *b_data, *c_data, *d_data;
  cudaStream_t stream = nullptr;
};

}  // namespace kiln::emulator::testing
