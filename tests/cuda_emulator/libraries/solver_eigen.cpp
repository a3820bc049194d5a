// Eigenvalues of symmetric matrices: cusolverDnXsyevd, and cusolverDnXsyevBatched of matrices side by side. A matrix that
// is not finite gives NaN, and info says nothing of it: whoever has such matrices must look at the results.
#include <cmath>
#include <limits>

#include "tests/cuda_emulator/libraries/call_log.h"
#include "tests/cuda_emulator/libraries/lapack.h"
#include "tests/cuda_emulator/libraries/matrices.h"
#include "tests/cuda_emulator/libraries/solver_common.h"
#include "tests/cuda_emulator/runtime.h"

using namespace kiln::emulator;

namespace {

struct EigenCall {
  const char* api;
  bool vectors, wide;
  Part part;
  int64_t n, lda, count;
  size_t element;
  uint64_t a, w;
  SolverWorkspace workspace;
  int* info;

  size_t needed() const {  // two matrices for each of the batch
    const auto order = static_cast<size_t>(n);
    return (1 + 6 * order + 2 * order * order) * static_cast<size_t>(count) * element;
  }
};

template <class T>
int decompose(Accesses& accesses, const EigenCall& call, uint64_t a, uint64_t w) {
  auto values = load_dense<T>(accesses, a, {call.n, call.n, call.lda, call.part}, Reading::kInPlace, "A");
  std::vector<T> eigenvalues(static_cast<size_t>(call.n));
  constexpr T kNan = std::numeric_limits<T>::quiet_NaN();
  const bool finite = std::all_of(values.begin(), values.end(), [](T value) { return std::isfinite(value); });
  int info = 0;
  if (finite) {
    info = lapack_syevd(call.vectors, call.part == Part::kLower, call.n, values, eigenvalues);
  } else {
    std::fill(eigenvalues.begin(), eigenvalues.end(), kNan);
  }
  if (!finite || !call.vectors) std::fill(values.begin(), values.end(), kNan);
  store_dense(accesses, a, {call.n, call.n, call.lda}, values, "A");
  store_dense(accesses, w, {call.n, 1, call.n}, eigenvalues, "W");
  return info;
}

void run_eigen(const Operation& operation, const EigenCall& call, const std::string& what) {
  Accesses accesses(operation, what);
  poison(accesses, address_of(call.workspace.device), call.needed(), "the workspace");
  std::vector<int> results;
  for (int64_t i = 0; i < call.count; ++i) {
    const uint64_t a = call.a + static_cast<uint64_t>(i * call.lda * call.n) * call.element;
    const uint64_t w = call.w + static_cast<uint64_t>(i * call.n) * call.element;
    results.push_back(call.wide ? decompose<double>(accesses, call, a, w)
                                : decompose<float>(accesses, call, a, w));
  }
  store_info(accesses, call.info, results);
}

bool wants_vectors(cusolverEigMode_t mode) {
  solver_invalid_unless(mode == CUSOLVER_EIG_MODE_NOVECTOR || mode == CUSOLVER_EIG_MODE_VECTOR,
                        fmt::format("cusolverEigMode_t {}", static_cast<int>(mode)));
  return mode == CUSOLVER_EIG_MODE_VECTOR;
}

void add_eigen(cusolverDnHandle_t handle, cusolverDnParams_t params, const EigenCall& call,
               cudaDataType type) {
  const cudaStream_t stream = solver_stream(handle);
  check_params(params);
  check_solver_matrix(reinterpret_cast<const void*>(call.a), call.n, call.n, call.lda, call.count,
                      call.element);
  require_device_pointer(call.w, static_cast<size_t>(call.n * call.count) * call.element, call.element, "W");
  check_info(call.info, call.count);
  check_workspace(call.workspace, call.needed(), kHostWorkspace);
  const std::string what = fmt::format("{} of n {}, batch {}", call.api, call.n, call.count);
  Streams::instance().add(stream_of(stream), what,
                          [=](const Operation& operation) { run_eigen(operation, call, what); });
  log_call({.api = call.api, .m = call.n, .n = call.n, .count = call.count, .a_type = type_name(type)});
}

void eigen_sizes(cusolverDnHandle_t handle, cusolverDnParams_t params, int64_t n, int64_t lda, int64_t count,
                 size_t element, size_t* device_bytes, size_t* host_bytes) {
  solver_stream(handle);
  check_params(params);
  solver_invalid_unless(n >= 0 && lda >= n && count >= 0,
                        fmt::format("n {}, lda {}, batch {}", n, lda, count));
  solver_invalid_unless(device_bytes != nullptr && host_bytes != nullptr, "nowhere to put the sizes");
  EigenCall call{};
  call.n = n;
  call.count = count;
  call.element = element;
  *device_bytes = call.needed();
  *host_bytes = kHostWorkspace;
}

}  // namespace

extern "C" {

cusolverStatus_t cusolverDnXsyevd_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params,
                                             cusolverEigMode_t mode, cublasFillMode_t fill, int64_t n,
                                             cudaDataType a_type, const void*, int64_t lda,
                                             cudaDataType w_type, const void*, cudaDataType compute,
                                             size_t* device_bytes, size_t* host_bytes) {
  return solver_answer("cusolverDnXsyevd_bufferSize", [&] {
    wants_vectors(mode);
    triangle_of(fill);
    eigen_sizes(handle, params, n, lda, 1, solver_element(a_type, w_type, compute), device_bytes, host_bytes);
  });
}

cusolverStatus_t cusolverDnXsyevd(cusolverDnHandle_t handle, cusolverDnParams_t params,
                                  cusolverEigMode_t mode, cublasFillMode_t fill, int64_t n,
                                  cudaDataType a_type, void* a, int64_t lda, cudaDataType w_type, void* w,
                                  cudaDataType compute, void* device, size_t device_bytes, void* host,
                                  size_t host_bytes, int* info) {
  return solver_answer("cusolverDnXsyevd", [&] {
    const size_t element = solver_element(a_type, w_type, compute);
    add_eigen(handle, params,
              {"cusolverDnXsyevd",
               wants_vectors(mode),
               a_type == CUDA_R_64F,
               triangle_of(fill),
               n,
               lda,
               1,
               element,
               address_of(a),
               address_of(w),
               {device, device_bytes, host, host_bytes},
               info},
              a_type);
  });
}

cusolverStatus_t cusolverDnXsyevBatched_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params,
                                                   cusolverEigMode_t mode, cublasFillMode_t fill, int64_t n,
                                                   cudaDataType a_type, const void*, int64_t lda,
                                                   cudaDataType w_type, const void*, cudaDataType compute,
                                                   size_t* device_bytes, size_t* host_bytes, int64_t count) {
  return solver_answer("cusolverDnXsyevBatched_bufferSize", [&] {
    wants_vectors(mode);
    triangle_of(fill);
    eigen_sizes(handle, params, n, lda, count, solver_element(a_type, w_type, compute), device_bytes,
                host_bytes);
  });
}

cusolverStatus_t cusolverDnXsyevBatched(cusolverDnHandle_t handle, cusolverDnParams_t params,
                                        cusolverEigMode_t mode, cublasFillMode_t fill, int64_t n,
                                        cudaDataType a_type, void* a, int64_t lda, cudaDataType w_type,
                                        void* w, cudaDataType compute, void* device, size_t device_bytes,
                                        void* host, size_t host_bytes, int* info, int64_t count) {
  return solver_answer("cusolverDnXsyevBatched", [&] {
    const size_t element = solver_element(a_type, w_type, compute);
    add_eigen(handle, params,
              {"cusolverDnXsyevBatched",
               wants_vectors(mode),
               a_type == CUDA_R_64F,
               triangle_of(fill),
               n,
               lda,
               count,
               element,
               address_of(a),
               address_of(w),
               {device, device_bytes, host, host_bytes},
               info},
              a_type);
  });
}

}  // extern "C"
