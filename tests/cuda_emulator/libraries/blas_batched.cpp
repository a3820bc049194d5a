// Products of batches that are given by arrays of pointers, and triangular solves: cublasGemmBatchedEx,
// cublasSgemmBatched, cublasStrsmBatched.
#include <cblas.h>

#include <cmath>

#include "tests/cuda_emulator/libraries/blas_handle.h"
#include "tests/cuda_emulator/libraries/call_log.h"
#include "tests/cuda_emulator/libraries/dense.h"
#include "tests/cuda_emulator/libraries/matrices.h"
#include "tests/cuda_emulator/libraries/pointer_arrays.h"
#include "tests/cuda_emulator/libraries/scalars.h"
#include "tests/cuda_emulator/runtime.h"

using namespace kiln::emulator;

namespace {

struct BatchedProduct {
  const char* api;
  int operation_a, operation_b;
  int64_t m, n, k, count;
  uint64_t a, b, c;  // arrays of pointers
  cudaDataType a_type, b_type, c_type;
  int64_t lda, ldb, ldc;
  const void *alpha, *beta;
};

void check_ld(const char* name, int64_t ld, int64_t rows) {
  invalid_unless(ld >= std::max<int64_t>(rows, 1),
                 fmt::format("ld{} is {}, it should be at least {}", name, ld, std::max<int64_t>(rows, 1)));
}

void check_array(uint64_t address, int64_t count, const char* name) {
  require_device_pointer(address, static_cast<size_t>(count) * sizeof(void*), sizeof(void*),
                         fmt::format("{}array", name));
}

// As documented for bf16 factors: tensor cores read by as many bytes as k allows.
size_t product_alignment(const BatchedProduct& p, cudaDataType type) {
  if (p.a_type == CUDA_R_16BF && p.k > 0 && p.k % 8 == 0) return 16;
  return p.a_type == CUDA_R_16BF && p.k > 0 && p.k % 2 == 0 ? 4 : element_bytes(type);
}

void check_product(const BatchedProduct& p) {
  invalid_unless(p.m >= 0 && p.n >= 0 && p.k >= 0 && p.count >= 0,
                 fmt::format("m {}, n {}, k {}, batch {}", p.m, p.n, p.k, p.count));
  check_ld("a", p.lda, is_transposed(p.operation_a) ? p.k : p.m);
  check_ld("b", p.ldb, is_transposed(p.operation_b) ? p.n : p.k);
  check_ld("c", p.ldc, p.m);
  for (const auto type : {p.a_type, p.b_type, p.c_type}) element_bytes(type);
  refuse_unless(p.a_type == p.b_type && (p.a_type == CUDA_R_16BF || p.c_type == CUDA_R_32F),
                CUBLAS_STATUS_NOT_SUPPORTED,
                fmt::format("the types A {}, B {}, C {} are not in the table", type_name(p.a_type),
                            type_name(p.b_type), type_name(p.c_type)));
}

DeviceMatrix factor(uint64_t address, cudaDataType type, int64_t rows, int64_t columns, int64_t ld,
                    bool transposed) {
  const DeviceMatrix stored{address, type, transposed ? columns : rows, transposed ? rows : columns, 1, ld};
  return transposed ? stored.transposed() : stored;
}

void run_product(const Operation& operation, const BatchedProduct& p, const std::string& what,
                 const Scalar& alpha, const Scalar& beta, const BlasWorkspace& workspace) {
  Accesses accesses(operation, what);
  workspace.use(accesses);
  const float a_factor = alpha.value(accesses, "alpha"), c_factor = beta.value(accesses, "beta");
  std::vector<uint64_t> as, bs;
  if (p.k > 0) {
    as = load_pointers(accesses, p.a, p.count, product_alignment(p, p.a_type), "A");
    bs = load_pointers(accesses, p.b, p.count, product_alignment(p, p.b_type), "B");
  }
  const auto cs = load_pointers(accesses, p.c, p.count, product_alignment(p, p.c_type), "C");
  for (size_t i = 0; i < cs.size(); ++i) {
    std::vector<float> out(static_cast<size_t>(p.m * p.n));
    if (p.k > 0) {
      const auto a = factor(as[i], p.a_type, p.m, p.k, p.lda, is_transposed(p.operation_a));
      const auto b = factor(bs[i], p.b_type, p.k, p.n, p.ldb, is_transposed(p.operation_b));
      out = multiply(load(accesses, a, Reading::kWritten, "A"), load(accesses, b, Reading::kWritten, "B"),
                     p.m, p.n, p.k);
    }
    for (float& each : out) each *= a_factor;
    const DeviceMatrix c{cs[i], p.c_type, p.m, p.n, 1, p.ldc};
    if (c_factor != 0) {
      const std::vector<float> added = load(accesses, c, Reading::kInPlace, "C");
      for (size_t e = 0; e < out.size(); ++e) out[e] += c_factor * added[e];
    }
    store(accesses, c, out, "C");
  }
}

// Sums here are made in one go. By default cuBLAS may add up parts in the type of C, which rounds more than once where that
// is narrower.
void check_math(const BlasHandle& handle, cudaDataType c_type) {
  const bool keeps_type = (handle.math & CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION) != 0 ||
                          handle.math == CUBLAS_PEDANTIC_MATH;
  if (c_type != CUDA_R_32F && !keeps_type)
    not_implemented(
        fmt::format("C in {} without CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION (cublasSetMathMode)",
                    type_name(c_type)));
}

void add_product(cublasHandle_t handle, const BatchedProduct& p) {
  const BlasHandle& data = blas_handle(handle);
  check_product(p);
  check_math(data, p.c_type);
  const Scalar alpha(p.alpha, data.factors_on_device(), "alpha"),
      beta(p.beta, data.factors_on_device(), "beta");
  if (p.m == 0 || p.n == 0 || p.count == 0) return;
  if (p.k > 0) {
    check_array(p.a, p.count, "A");
    check_array(p.b, p.count, "B");
  }
  check_array(p.c, p.count, "C");
  const std::string what = fmt::format("{} of m {}, n {}, k {}, batch {}", p.api, p.m, p.n, p.k, p.count);
  const BlasWorkspace workspace(data);
  Streams::instance().add(stream_of(data.stream), what, [=](const Operation& operation) {
    run_product(operation, p, what, alpha, beta, workspace);
  });
  log_call({.api = p.api,
            .m = p.m,
            .n = p.n,
            .k = p.k,
            .count = p.count,
            .a_transposed = is_transposed(p.operation_a),
            .b_transposed = is_transposed(p.operation_b),
            .a_type = type_name(p.a_type),
            .b_type = type_name(p.b_type),
            .out_type = type_name(p.c_type),
            .alpha = alpha.logged(),
            .beta = beta.logged()});
}

struct TriangularSolve {
  bool left, lower, transposed, unit;
  int64_t m, n, lda, ldb, count;
  uint64_t a, b;  // arrays of pointers
};

void run_solve(const Operation& operation, const TriangularSolve& s, const std::string& what,
               const Scalar& alpha, const BlasWorkspace& workspace) {
  Accesses accesses(operation, what);
  workspace.use(accesses);
  const float factor = alpha.value(accesses, "alpha");
  const auto as = load_pointers(accesses, s.a, s.count, sizeof(float), "A");
  const auto bs = load_pointers(accesses, s.b, s.count, sizeof(float), "B");
  const int64_t order = s.left ? s.m : s.n;
  for (size_t i = 0; i < as.size(); ++i) {
    const DenseShape triangle{order, order, s.lda, s.lower ? Part::kLower : Part::kUpper},
        all{s.m, s.n, s.ldb};
    const auto a = load_dense<float>(accesses, as[i], triangle, Reading::kWritten, "A");
    auto b = load_dense<float>(accesses, bs[i], all, Reading::kInPlace, "B");
    cblas_strsm(CblasColMajor, s.left ? CblasLeft : CblasRight, s.lower ? CblasLower : CblasUpper,
                s.transposed ? CblasTrans : CblasNoTrans, s.unit ? CblasUnit : CblasNonUnit,
                static_cast<int>(s.m), static_cast<int>(s.n), factor, a.data(), static_cast<int>(order),
                b.data(), static_cast<int>(s.m));
    store_dense(accesses, bs[i], all, b, "B");
  }
}

}  // namespace

extern "C" {

cublasStatus_t cublasGemmBatchedEx(cublasHandle_t handle, cublasOperation_t operation_a,
                                   cublasOperation_t operation_b, int m, int n, int k, const void* alpha,
                                   const void* const a[], cudaDataType a_type, int lda, const void* const b[],
                                   cudaDataType b_type, int ldb, const void* beta, void* const c[],
                                   cudaDataType c_type, int ldc, int count, cublasComputeType_t compute,
                                   cublasGemmAlgo_t algorithm) {
  return blas_answer("cublasGemmBatchedEx", [&] {
    if (compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_PEDANTIC)
      not_implemented(fmt::format("cublasComputeType_t {}", static_cast<int>(compute)));
    if (algorithm != CUBLAS_GEMM_DEFAULT && algorithm != CUBLAS_GEMM_DEFAULT_TENSOR_OP)
      not_implemented(fmt::format("cublasGemmAlgo_t {}", static_cast<int>(algorithm)));
    add_product(handle, {"cublasGemmBatchedEx", operation_a, operation_b, m, n, k, count, address_of(a),
                         address_of(b), address_of(c), a_type, b_type, c_type, lda, ldb, ldc, alpha, beta});
  });
}

cublasStatus_t cublasSgemmBatched(cublasHandle_t handle, cublasOperation_t operation_a,
                                  cublasOperation_t operation_b, int m, int n, int k, const float* alpha,
                                  const float* const a[], int lda, const float* const b[], int ldb,
                                  const float* beta, float* const c[], int ldc, int count) {
  return blas_answer("cublasSgemmBatched", [&] {
    add_product(handle,
                {"cublasSgemmBatched", operation_a, operation_b, m, n, k, count, address_of(a), address_of(b),
                 address_of(c), CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, lda, ldb, ldc, alpha, beta});
  });
}

cublasStatus_t cublasStrsmBatched(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t part,
                                  cublasOperation_t operation, cublasDiagType_t diagonal, int m, int n,
                                  const float* alpha, const float* const a[], int lda, float* const b[],
                                  int ldb, int count) {
  return blas_answer("cublasStrsmBatched", [&] {
    const BlasHandle& data = blas_handle(handle);
    invalid_unless(m >= 0 && n >= 0 && count >= 0, fmt::format("m {}, n {}, batch {}", m, n, count));
    invalid_unless(side == CUBLAS_SIDE_LEFT || side == CUBLAS_SIDE_RIGHT, "a side that does not exist");
    invalid_unless(part == CUBLAS_FILL_MODE_LOWER || part == CUBLAS_FILL_MODE_UPPER,
                   "a triangle that does not exist");
    invalid_unless(diagonal == CUBLAS_DIAG_NON_UNIT || diagonal == CUBLAS_DIAG_UNIT,
                   "a diagonal that does not exist");
    check_ld("a", lda, side == CUBLAS_SIDE_LEFT ? m : n);
    check_ld("b", ldb, m);
    const Scalar factor(alpha, data.factors_on_device(), "alpha");
    if (m == 0 || n == 0 || count == 0) return;
    check_array(address_of(a), count, "A");
    check_array(address_of(b), count, "B");
    const TriangularSolve s{side == CUBLAS_SIDE_LEFT,
                            part == CUBLAS_FILL_MODE_LOWER,
                            is_transposed(operation),
                            diagonal == CUBLAS_DIAG_UNIT,
                            m,
                            n,
                            lda,
                            ldb,
                            count,
                            address_of(a),
                            address_of(b)};
    const std::string what = fmt::format("cublasStrsmBatched of m {}, n {}, batch {}", m, n, count);
    const BlasWorkspace workspace(data);
    Streams::instance().add(stream_of(data.stream), what,
                            [=](const Operation& each) { run_solve(each, s, what, factor, workspace); });
    log_call({.api = "cublasStrsmBatched",
              .m = m,
              .n = n,
              .count = count,
              .a_transposed = s.transposed,
              .a_type = "CUDA_R_32F",
              .out_type = "CUDA_R_32F",
              .alpha = factor.logged()});
  });
}

}  // extern "C"
