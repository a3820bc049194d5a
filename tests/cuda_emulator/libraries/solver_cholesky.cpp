// Cholesky: cusolverDnXpotrf, and cusolverDnSpotrfBatched and Dpotrf of arrays of pointers, which need no workspace. A
// matrix that is not positive definite comes back as NaN, with the order of the minor that failed in info.
#include <limits>

#include "tests/cuda_emulator/libraries/call_log.h"
#include "tests/cuda_emulator/libraries/lapack.h"
#include "tests/cuda_emulator/libraries/matrices.h"
#include "tests/cuda_emulator/libraries/pointer_arrays.h"
#include "tests/cuda_emulator/libraries/solver_common.h"
#include "tests/cuda_emulator/runtime.h"

using namespace kiln::emulator;

namespace {

size_t cholesky_workspace(int64_t n, size_t element) {
  return static_cast<size_t>(std::max<int64_t>(n, 1)) * element + 256;
}

// Returns info.
template <class T>
int factorise(Accesses& accesses, uint64_t a, const DenseShape& shape) {
  auto values = load_dense<T>(accesses, a, shape, Reading::kInPlace, "A");
  const int info = lapack_potrf(shape.part == Part::kLower, shape.rows, values);
  if (info != 0) std::fill(values.begin(), values.end(), std::numeric_limits<T>::quiet_NaN());
  store_dense(accesses, a, shape, values, "A");
  return info;
}

template <class T>
void add_batch(const char* api, const char* type, cusolverDnHandle_t handle, cublasFillMode_t fill, int n,
               T* const matrices[], int lda, int* info, int count) {
  const cudaStream_t stream = solver_stream(handle);
  solver_invalid_unless(n >= 0 && count >= 0 && lda >= std::max(n, 1),
                        fmt::format("n {}, lda {}, batch {}", n, lda, count));
  if (n == 0 || count == 0) throw Finding("matrices without elements, or an empty batch");
  const DenseShape shape{n, n, lda, triangle_of(fill)};
  require_device_pointer(address_of(matrices), static_cast<size_t>(count) * sizeof(void*), sizeof(void*),
                         "Aarray");
  check_info(info, count);
  const std::string what = fmt::format("{} of n {}, batch {}", api, n, count);
  Streams::instance().add(stream_of(stream), what, [=](const Operation& operation) {
    Accesses accesses(operation, what);
    std::vector<int> results;
    for (const uint64_t each : load_pointers(accesses, address_of(matrices), count, sizeof(T), "A"))
      results.push_back(factorise<T>(accesses, each, shape));
    store_info(accesses, info, results);
  });
  log_call({.api = api, .m = n, .n = n, .count = count, .a_type = type});
}

}  // namespace

extern "C" {

cusolverStatus_t cusolverDnXpotrf_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params,
                                             cublasFillMode_t fill, int64_t n, cudaDataType a_type,
                                             const void*, int64_t lda, cudaDataType compute,
                                             size_t* device_bytes, size_t* host_bytes) {
  return solver_answer("cusolverDnXpotrf_bufferSize", [&] {
    solver_stream(handle);
    check_params(params);
    triangle_of(fill);
    solver_invalid_unless(n >= 0 && lda >= n, fmt::format("n {}, lda {}", n, lda));
    solver_invalid_unless(device_bytes != nullptr && host_bytes != nullptr, "nowhere to put the sizes");
    *device_bytes = cholesky_workspace(n, solver_element(a_type, a_type, compute));
    *host_bytes = kHostWorkspace;
  });
}

cusolverStatus_t cusolverDnXpotrf(cusolverDnHandle_t handle, cusolverDnParams_t params, cublasFillMode_t fill,
                                  int64_t n, cudaDataType a_type, void* a, int64_t lda, cudaDataType compute,
                                  void* device, size_t device_bytes, void* host, size_t host_bytes,
                                  int* info) {
  return solver_answer("cusolverDnXpotrf", [&] {
    const cudaStream_t stream = solver_stream(handle);
    check_params(params);
    const size_t element = solver_element(a_type, a_type, compute);
    check_solver_matrix(a, n, n, lda, 1, element);
    check_info(info, 1);
    const size_t used = cholesky_workspace(n, element);
    check_workspace({device, device_bytes, host, host_bytes}, used, kHostWorkspace);
    const DenseShape shape{n, n, lda, triangle_of(fill)};
    const bool wide = a_type == CUDA_R_64F;
    const std::string what = fmt::format("cusolverDnXpotrf of n {}", n);
    Streams::instance().add(stream_of(stream), what, [=](const Operation& operation) {
      Accesses accesses(operation, what);
      poison(accesses, address_of(device), used, "the workspace");
      const auto run = wide ? factorise<double> : factorise<float>;
      store_info(accesses, info, {run(accesses, address_of(a), shape)});
    });
    log_call({.api = "cusolverDnXpotrf", .m = n, .n = n, .a_type = type_name(a_type)});
  });
}

cusolverStatus_t cusolverDnSpotrfBatched(cusolverDnHandle_t handle, cublasFillMode_t fill, int n,
                                         float* matrices[], int lda, int* info, int count) {
  return solver_answer("cusolverDnSpotrfBatched", [&] {
    add_batch("cusolverDnSpotrfBatched", "CUDA_R_32F", handle, fill, n, matrices, lda, info, count);
  });
}

cusolverStatus_t cusolverDnDpotrfBatched(cusolverDnHandle_t handle, cublasFillMode_t fill, int n,
                                         double* matrices[], int lda, int* info, int count) {
  return solver_answer("cusolverDnDpotrfBatched", [&] {
    add_batch("cusolverDnDpotrfBatched", "CUDA_R_64F", handle, fill, n, matrices, lda, info, count);
  });
}

}  // extern "C"
