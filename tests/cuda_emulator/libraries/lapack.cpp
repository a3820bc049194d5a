#include "tests/cuda_emulator/libraries/lapack.h"

#include <lapacke.h>

namespace kiln::emulator {

namespace {

lapack_int as_int(int64_t value) {
  return static_cast<lapack_int>(value);
}

// Calls body(workspace, its length) twice: first to ask for the length.
template <class T, class Body>
int with_workspace(Body body) {
  T wanted = 0;
  if (const lapack_int info = body(&wanted, -1); info != 0) return info;
  std::vector<T> workspace(static_cast<size_t>(wanted) + 1);
  return body(workspace.data(), as_int(static_cast<int64_t>(workspace.size())));
}

}  // namespace

int lapack_geqrf(int64_t m, int64_t n, std::vector<float>& a, std::vector<float>& tau) {
  return with_workspace<float>([&](float* work, lapack_int length) {
    return LAPACKE_sgeqrf_work(LAPACK_COL_MAJOR, as_int(m), as_int(n), a.data(), as_int(m), tau.data(), work,
                               length);
  });
}

int lapack_geqrf(int64_t m, int64_t n, std::vector<double>& a, std::vector<double>& tau) {
  return with_workspace<double>([&](double* work, lapack_int length) {
    return LAPACKE_dgeqrf_work(LAPACK_COL_MAJOR, as_int(m), as_int(n), a.data(), as_int(m), tau.data(), work,
                               length);
  });
}

int lapack_orgqr(int64_t m, int64_t n, int64_t k, std::vector<float>& a, const std::vector<float>& tau) {
  return with_workspace<float>([&](float* work, lapack_int length) {
    return LAPACKE_sorgqr_work(LAPACK_COL_MAJOR, as_int(m), as_int(n), as_int(k), a.data(), as_int(m),
                               tau.data(), work, length);
  });
}

int lapack_orgqr(int64_t m, int64_t n, int64_t k, std::vector<double>& a, const std::vector<double>& tau) {
  return with_workspace<double>([&](double* work, lapack_int length) {
    return LAPACKE_dorgqr_work(LAPACK_COL_MAJOR, as_int(m), as_int(n), as_int(k), a.data(), as_int(m),
                               tau.data(), work, length);
  });
}

int lapack_potrf(bool lower, int64_t n, std::vector<float>& a) {
  return LAPACKE_spotrf_work(LAPACK_COL_MAJOR, lower ? 'L' : 'U', as_int(n), a.data(), as_int(n));
}

int lapack_potrf(bool lower, int64_t n, std::vector<double>& a) {
  return LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, lower ? 'L' : 'U', as_int(n), a.data(), as_int(n));
}

int lapack_syevd(bool vectors, bool lower, int64_t n, std::vector<float>& a, std::vector<float>& w) {
  std::vector<lapack_int> integers(static_cast<size_t>(5 * n + 3));
  return with_workspace<float>([&](float* work, lapack_int length) {
    return LAPACKE_ssyevd_work(LAPACK_COL_MAJOR, vectors ? 'V' : 'N', lower ? 'L' : 'U', as_int(n), a.data(),
                               as_int(n), w.data(), work, length, integers.data(),
                               length < 0 ? -1 : as_int(static_cast<int64_t>(integers.size())));
  });
}

int lapack_syevd(bool vectors, bool lower, int64_t n, std::vector<double>& a, std::vector<double>& w) {
  std::vector<lapack_int> integers(static_cast<size_t>(5 * n + 3));
  return with_workspace<double>([&](double* work, lapack_int length) {
    return LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, vectors ? 'V' : 'N', lower ? 'L' : 'U', as_int(n), a.data(),
                               as_int(n), w.data(), work, length, integers.data(),
                               length < 0 ? -1 : as_int(static_cast<int64_t>(integers.size())));
  });
}

}  // namespace kiln::emulator
