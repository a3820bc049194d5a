#include "tests/cuda_emulator/libraries/lt_algorithm.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "tests/cuda_emulator/libraries/blas_handle.h"
#include "tests/cuda_emulator/libraries/objects.h"

namespace kiln::emulator {

namespace {

constexpr uint64_t kMark = 0x4b494c4e414c474f;
constexpr uint64_t kMostWorkspace = 64 << 10;  // small, since it is filled with NaN at every call

// Room for partial sums of D, so that large problems want more than small ones.
uint64_t wanted_workspace(const LtProblem& p) {
  const uint64_t sums = static_cast<uint64_t>(p.m) * static_cast<uint64_t>(p.n) * 4 / 256 * 256;
  return std::clamp<uint64_t>(sums, 256, kMostWorkspace);
}

uint32_t checked_alignment(uint32_t alignment, const char* name) {
  if (!std::has_single_bit(alignment))
    throw Finding(fmt::format("MIN_ALIGNMENT_{}_BYTES is {}, which is no power of two", name, alignment));
  return alignment;
}

// Sums here are made in one go. Every scheme allows that and comes to the same, but one: parts in the type of D, where that
// is narrower, are rounded more than once.
void check_reduction(const LtProblem& problem, uint32_t schemes) {
  if ((schemes & ~uint32_t{CUBLASLT_REDUCTION_SCHEME_MASK}) != 0)
    throw Finding(fmt::format("REDUCTION_SCHEME_MASK is {:#x}", schemes));
  if ((schemes & CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE) != 0 && problem.d.type != CUDA_R_32F)
    not_implemented(fmt::format(
        "REDUCTION_SCHEME_MASK {:#x}, which lets sums be made of parts in {} (OUTPUT_TYPE, part of "
        "the default),",
        schemes, type_name(static_cast<cudaDataType>(problem.d.type))));
}

LtAlgorithm choose(const LtProblem& problem, const PreferenceData& preference) {
  LtAlgorithm chosen{};
  chosen.mark = kMark;
  chosen.key = problem_key(problem);
  chosen.workspace = std::min<uint64_t>(wanted_workspace(problem), preference.max_workspace);
  chosen.alignment_a = checked_alignment(preference.alignment_a, "A");
  chosen.alignment_b = checked_alignment(preference.alignment_b, "B");
  chosen.alignment_c = checked_alignment(preference.alignment_c, "C");
  chosen.alignment_d = checked_alignment(preference.alignment_d, "D");
  check_reduction(problem, preference.reduction_schemes);
  if (preference.implementations != ~uint64_t{0}) not_implemented("a choice of implementations");
  return chosen;
}

}  // namespace

void check_lt_handle(cublasLtHandle_t handle) {
  refuse_unless(handle != nullptr, CUBLAS_STATUS_NOT_INITIALIZED, "the handle is null");
  require_object(handle, is_object(handle, kBlasHandles) ? kBlasHandles : kLtHandles);
}

LtAlgorithm lt_algorithm(const cublasLtMatmulAlgo_t& algorithm, const LtProblem& problem) {
  static_assert(sizeof(LtAlgorithm) <= sizeof(cublasLtMatmulAlgo_t));
  LtAlgorithm said;
  std::memcpy(&said, &algorithm, sizeof said);
  if (said.mark != kMark) throw Finding("the algorithm does not come from cublasLtMatmulAlgoGetHeuristic");
  if (said.key != problem_key(problem))
    throw Finding(
        "the algorithm was given for another problem: other shapes, strides, types, transposes or epilogue");
  return said;
}

}  // namespace kiln::emulator

using namespace kiln::emulator;

extern "C" {

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int* returned) {
  return blas_answer("cublasLtMatmulAlgoGetHeuristic", [&] {
    check_lt_handle(handle);
    invalid_unless(requested > 0, "no algorithm is asked for");
    invalid_unless(results != nullptr && returned != nullptr, "nowhere to put the result");
    const LtProblem problem = lt_problem(description, a, b, c, d);
    const LtAlgorithm chosen = choose(problem, preference_data(preference));
    results[0] = {};
    std::memcpy(&results[0].algo, &chosen, sizeof chosen);
    results[0].workspaceSize = chosen.workspace;
    results[0].state = CUBLAS_STATUS_SUCCESS;
    results[0].wavesCount = 1;
    *returned = 1;
  });
}

}  // extern "C"
