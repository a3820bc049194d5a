// cuSOLVER's calls with the workspaces that they ask for, in both precisions.
#pragma once

#include <cusolverDn.h>

#include <memory>
#include <random>
#include <type_traits>
#include <vector>

#include "tests/cuda_emulator/tests/device_array.h"

namespace kiln::emulator::testing {

template <class T>
constexpr cudaDataType kSolverType = std::is_same_v<T, float> ? CUDA_R_32F : CUDA_R_64F;

template <class T>
std::vector<T> random_matrix(std::mt19937& random, int64_t ld, int64_t columns) {
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::vector<T> values(static_cast<size_t>(ld * columns));
  for (T& each : values) each = static_cast<T>(uniform(random));
  return values;
}

// Column-major (n, n) matrices side by side, symmetric; with `definite`, their eigenvalues are at least 1.
template <class T>
std::vector<T> symmetric_matrices(std::mt19937& random, int64_t n, int64_t ld, int64_t count, bool definite) {
  std::vector<T> values = random_matrix<T>(random, ld, n * count);
  for (int64_t b = 0; b < count; ++b) {
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t i = 0; i < j; ++i)
        values[static_cast<size_t>((b * n + j) * ld + i)] = values[static_cast<size_t>((b * n + i) * ld + j)];
      if (definite) values[static_cast<size_t>((b * n + j) * ld + j)] += static_cast<T>(n);
    }
  }
  return values;
}

class Solver {
 public:
  Solver() {
    cusolverDnCreate(&handle);
    cusolverDnCreateParams(&params);
  }
  ~Solver() {
    cusolverDnDestroyParams(params);
    cusolverDnDestroy(handle);
  }

  template <class T>
  cusolverStatus_t geqrf(int64_t m, int64_t n, T* a, int64_t lda, T* tau) {
    size_t device = 0, host = 0;
    cusolverDnXgeqrf_bufferSize(handle, params, m, n, kSolverType<T>, a, lda, kSolverType<T>, tau,
                                kSolverType<T>, &device, &host);
    make_room(device, host);
    return cusolverDnXgeqrf(handle, params, m, n, kSolverType<T>, a, lda, kSolverType<T>, tau, kSolverType<T>,
                            on_device->data(), device, on_host.data(), host, info.data());
  }

  template <class T>
  cusolverStatus_t potrf(cublasFillMode_t fill, int64_t n, T* a, int64_t lda) {
    size_t device = 0, host = 0;
    cusolverDnXpotrf_bufferSize(handle, params, fill, n, kSolverType<T>, a, lda, kSolverType<T>, &device,
                                &host);
    make_room(device, host);
    return cusolverDnXpotrf(handle, params, fill, n, kSolverType<T>, a, lda, kSolverType<T>,
                            on_device->data(), device, on_host.data(), host, info.data());
  }

  // One matrix by Xsyevd, several by XsyevBatched.
  template <class T>
  cusolverStatus_t syev(cusolverEigMode_t mode, cublasFillMode_t fill, int64_t n, T* a, int64_t lda, T* w,
                        int64_t count) {
    size_t device = 0, host = 0;
    constexpr cudaDataType type = kSolverType<T>;
    if (count == 1) {
      cusolverDnXsyevd_bufferSize(handle, params, mode, fill, n, type, a, lda, type, w, type, &device, &host);
      make_room(device, host);
      return cusolverDnXsyevd(handle, params, mode, fill, n, type, a, lda, type, w, type, on_device->data(),
                              device, on_host.data(), host, info.data());
    }
    cusolverDnXsyevBatched_bufferSize(handle, params, mode, fill, n, type, a, lda, type, w, type, &device,
                                      &host, count);
    make_room(device, host);
    return cusolverDnXsyevBatched(handle, params, mode, fill, n, type, a, lda, type, w, type,
                                  on_device->data(), device, on_host.data(), host, info.data(), count);
  }

  void make_room(size_t device, size_t host) {
    cudaDeviceSynchronize();
    on_device = std::make_unique<DeviceArray<char>>(device);
    on_host.resize(host);
  }

  cusolverDnHandle_t handle = nullptr;
  cusolverDnParams_t params = nullptr;
  std::unique_ptr<DeviceArray<char>> on_device;
  std::vector<char> on_host;
  DeviceArray<int> info{8};
};

}  // namespace kiln::emulator::testing
