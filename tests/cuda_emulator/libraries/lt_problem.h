// A multiplication as the descriptors of cuBLASLt state it, checked against what the library documents:
// D = epilogue(alpha op(A) op(B) + beta C), column-major, for every matrix of a batch.
#pragma once

#include <cublasLt.h>

#include <cstdint>
#include <string>

#include "tests/cuda_emulator/libraries/lt_descriptors.h"
#include "tests/cuda_emulator/libraries/matrices.h"

namespace kiln::emulator {

struct LtProblem {
  MatmulData description;
  LayoutData a, b, c, d;
  int64_t m, n, k, count;
  bool pointer_arrays;  // the batch is given by arrays of pointers
};

// Refuses what the real library refuses; a finding for what is not implemented or documented.
LtProblem lt_problem(cublasLtMatmulDesc_t description, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                     cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d);

// What an algorithm that the heuristic gave is good for: everything but the pointers.
uint64_t problem_key(const LtProblem& problem);

// The matrix at its first element, as stored.
DeviceMatrix stored_matrix(const LayoutData& layout, uint64_t address);

// The parts of epilogues.
struct LtEpilogue {
  bool adds_bias = false, gelu = false, gelu_gradient = false, writes_aux = false;
  bool bias_gradient = false;                             // of D, summed over its columns
  bool bias_gradient_a = false, bias_gradient_b = false;  // of op(A), op(B), summed over k

  bool has_bias() const { return adds_bias || bias_gradient || bias_gradient_a || bias_gradient_b; }
  bool has_aux() const { return writes_aux || gelu_gradient; }
};
LtEpilogue lt_epilogue(uint32_t epilogue);
std::string epilogue_name(uint32_t epilogue);

}  // namespace kiln::emulator
