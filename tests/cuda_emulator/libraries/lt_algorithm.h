// The algorithms that the heuristic gives: one for every problem, which needs a workspace as far as one is allowed.
#pragma once

#include "tests/cuda_emulator/libraries/lt_problem.h"

namespace kiln::emulator {

constexpr const char* kLtHandles = "cuBLASLt handles";

// A refusal for null, a finding for what is no handle (any more). A handle of cuBLAS is one of cuBLASLt too.
void check_lt_handle(cublasLtHandle_t handle);

struct LtAlgorithm {
  uint64_t mark;
  uint64_t key;  // of the problem it was given for
  uint64_t workspace;
  uint32_t alignment_a, alignment_b, alignment_c, alignment_d;
};

// Findings for what the heuristic did not give, or gave for another problem.
LtAlgorithm lt_algorithm(const cublasLtMatmulAlgo_t& algorithm, const LtProblem& problem);

}  // namespace kiln::emulator
