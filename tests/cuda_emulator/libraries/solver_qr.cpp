// QR: cusolverDnXgeqrf, and cusolverDnSorgqr and Dorgqr, which have no 64-bit form.
#include "tests/cuda_emulator/libraries/call_log.h"
#include "tests/cuda_emulator/libraries/lapack.h"
#include "tests/cuda_emulator/libraries/matrices.h"
#include "tests/cuda_emulator/libraries/solver_common.h"
#include "tests/cuda_emulator/runtime.h"

using namespace kiln::emulator;

namespace {

// Room for blocks of 32 columns.
size_t qr_workspace(int64_t columns, size_t element) {
  return static_cast<size_t>(std::max<int64_t>(columns, 1)) * 32 * element;
}

template <class T>
void run_geqrf(const Operation& operation, const std::string& what, DenseShape shape, uint64_t a,
               uint64_t tau, const SolverWorkspace& workspace, size_t used, const int* info) {
  Accesses accesses(operation, what);
  poison(accesses, address_of(workspace.device), used, "the workspace");
  auto values = load_dense<T>(accesses, a, shape, Reading::kInPlace, "A");
  const DenseShape vector{std::min(shape.rows, shape.columns), 1, 1};
  std::vector<T> factors(static_cast<size_t>(vector.rows));
  const int result = lapack_geqrf(shape.rows, shape.columns, values, factors);
  store_dense(accesses, a, shape, values, "A");
  store_dense(accesses, tau, vector, factors, "tau");
  store_info(accesses, info, {result});
}

template <class T>
void run_orgqr(const Operation& operation, const std::string& what, DenseShape shape, int64_t k, uint64_t a,
               uint64_t tau, uint64_t work, size_t used, const int* info) {
  Accesses accesses(operation, what);
  poison(accesses, work, used, "the workspace");
  auto values = load_dense<T>(accesses, a, shape, Reading::kInPlace, "A");
  const auto factors = load_dense<T>(accesses, tau, {k, 1, 1}, Reading::kWritten, "tau");
  const int result = lapack_orgqr(shape.rows, shape.columns, k, values, factors);
  store_dense(accesses, a, shape, values, "A");
  store_info(accesses, info, {result});
}

void check_orgqr_shape(int m, int n, int k) {
  solver_invalid_unless(m >= n && n >= k && k >= 0,
                        fmt::format("m {}, n {}, k {}: m >= n >= k should hold", m, n, k));
}

template <class T>
void add_orgqr(const char* api, const char* type, cusolverDnHandle_t handle, int m, int n, int k, T* a,
               int lda, const T* tau, T* work, int length, int* info) {
  const cudaStream_t stream = solver_stream(handle);
  check_orgqr_shape(m, n, k);
  check_solver_matrix(a, m, n, lda, 1, sizeof(T));
  if (k == 0) throw Finding("no reflectors");
  require_device_pointer(address_of(tau), static_cast<size_t>(k) * sizeof(T), sizeof(T), "tau");
  check_info(info, 1);
  const size_t used = qr_workspace(n, sizeof(T));
  check_workspace({work, static_cast<size_t>(std::max(length, 0)) * sizeof(T), nullptr, 0}, used, 0);
  const std::string what = fmt::format("{} of m {}, n {}, k {}", api, m, n, k);
  const DenseShape shape{m, n, lda};
  Streams::instance().add(stream_of(stream), what, [=](const Operation& operation) {
    run_orgqr<T>(operation, what, shape, k, address_of(a), address_of(tau), address_of(work), used, info);
  });
  log_call({.api = api, .m = m, .n = n, .k = k, .a_type = type});
}

template <class T>
void orgqr_length(cusolverDnHandle_t handle, int m, int n, int k, int lda, int* length) {
  solver_stream(handle);
  check_orgqr_shape(m, n, k);
  solver_invalid_unless(lda >= std::max(m, 1), fmt::format("lda is {}, it should be at least {}", lda, m));
  solver_invalid_unless(length != nullptr, "nowhere to put the size");
  *length = static_cast<int>(qr_workspace(n, sizeof(T)) / sizeof(T));
}

}  // namespace

extern "C" {

cusolverStatus_t cusolverDnXgeqrf_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params, int64_t m,
                                             int64_t n, cudaDataType a_type, const void*, int64_t lda,
                                             cudaDataType tau_type, const void*, cudaDataType compute,
                                             size_t* device_bytes, size_t* host_bytes) {
  return solver_answer("cusolverDnXgeqrf_bufferSize", [&] {
    solver_stream(handle);
    check_params(params);
    solver_invalid_unless(m >= 0 && n >= 0 && lda >= m, fmt::format("m {}, n {}, lda {}", m, n, lda));
    solver_invalid_unless(device_bytes != nullptr && host_bytes != nullptr, "nowhere to put the sizes");
    *device_bytes = qr_workspace(n, solver_element(a_type, tau_type, compute));
    *host_bytes = kHostWorkspace;
  });
}

cusolverStatus_t cusolverDnXgeqrf(cusolverDnHandle_t handle, cusolverDnParams_t params, int64_t m, int64_t n,
                                  cudaDataType a_type, void* a, int64_t lda, cudaDataType tau_type, void* tau,
                                  cudaDataType compute, void* device, size_t device_bytes, void* host,
                                  size_t host_bytes, int* info) {
  return solver_answer("cusolverDnXgeqrf", [&] {
    const cudaStream_t stream = solver_stream(handle);
    check_params(params);
    const size_t element = solver_element(a_type, tau_type, compute);
    check_solver_matrix(a, m, n, lda, 1, element);
    require_device_pointer(address_of(tau), static_cast<size_t>(std::min(m, n)) * element, element, "tau");
    check_info(info, 1);
    const SolverWorkspace workspace{device, device_bytes, host, host_bytes};
    const size_t used = qr_workspace(n, element);
    check_workspace(workspace, used, kHostWorkspace);
    const std::string what = fmt::format("cusolverDnXgeqrf of m {}, n {}", m, n);
    const DenseShape shape{m, n, lda};
    const bool wide = a_type == CUDA_R_64F;
    Streams::instance().add(stream_of(stream), what, [=](const Operation& operation) {
      const auto run = wide ? run_geqrf<double> : run_geqrf<float>;
      run(operation, what, shape, address_of(a), address_of(tau), workspace, used, info);
    });
    log_call({.api = "cusolverDnXgeqrf", .m = m, .n = n, .a_type = type_name(a_type)});
  });
}

cusolverStatus_t cusolverDnSorgqr_bufferSize(cusolverDnHandle_t handle, int m, int n, int k, const float*,
                                             int lda, const float*, int* length) {
  return solver_answer("cusolverDnSorgqr_bufferSize",
                       [&] { orgqr_length<float>(handle, m, n, k, lda, length); });
}

cusolverStatus_t cusolverDnDorgqr_bufferSize(cusolverDnHandle_t handle, int m, int n, int k, const double*,
                                             int lda, const double*, int* length) {
  return solver_answer("cusolverDnDorgqr_bufferSize",
                       [&] { orgqr_length<double>(handle, m, n, k, lda, length); });
}

cusolverStatus_t cusolverDnSorgqr(cusolverDnHandle_t handle, int m, int n, int k, float* a, int lda,
                                  const float* tau, float* work, int length, int* info) {
  return solver_answer("cusolverDnSorgqr", [&] {
    add_orgqr("cusolverDnSorgqr", "CUDA_R_32F", handle, m, n, k, a, lda, tau, work, length, info);
  });
}

cusolverStatus_t cusolverDnDorgqr(cusolverDnHandle_t handle, int m, int n, int k, double* a, int lda,
                                  const double* tau, double* work, int length, int* info) {
  return solver_answer("cusolverDnDorgqr", [&] {
    add_orgqr("cusolverDnDorgqr", "CUDA_R_64F", handle, m, n, k, a, lda, tau, work, length, info);
  });
}

}  // extern "C"
