// LAPACK in both precisions, column-major, without its check for NaN.
#pragma once

#include <cstdint>
#include <vector>

namespace kiln::emulator {

// Each returns LAPACK's info. Matrices are dense.
int lapack_geqrf(int64_t m, int64_t n, std::vector<float>& a, std::vector<float>& tau);
int lapack_geqrf(int64_t m, int64_t n, std::vector<double>& a, std::vector<double>& tau);
// Of k reflectors in a (m, n), the first n columns of Q.
int lapack_orgqr(int64_t m, int64_t n, int64_t k, std::vector<float>& a, const std::vector<float>& tau);
int lapack_orgqr(int64_t m, int64_t n, int64_t k, std::vector<double>& a, const std::vector<double>& tau);
int lapack_potrf(bool lower, int64_t n, std::vector<float>& a);
int lapack_potrf(bool lower, int64_t n, std::vector<double>& a);
// Eigenvalues in w, ascending; eigenvectors in the columns of a.
int lapack_syevd(bool vectors, bool lower, int64_t n, std::vector<float>& a, std::vector<float>& w);
int lapack_syevd(bool vectors, bool lower, int64_t n, std::vector<double>& a, std::vector<double>& w);

}  // namespace kiln::emulator
