// How flat the tail of a factor's spectrum is.
#pragma once

#include <cstdint>

namespace kiln::optim {

// log(AM/GM) of the n - rank smallest of n eigenvalues, given in ascending order: zero where they are equal, half the
// variance of their logarithms where they scatter little. Times m (n - rank) / 2 it is what Pro-KLShampoo's one eigenvalue
// for all of them costs in KL divergence (nats), n being the side's dimension and m the other's. Each counts as at least
// kernels::kSpectrumFloor times the mean of all. 0 without a tail (rank >= n) and where all are zero; NaN where one is
// not finite.
double tail_gap(const float* ascending, int64_t n, int64_t rank);

// The least rank whose tail_gap is at most `most`; at most n.
int64_t flat_rank(const float* ascending, int64_t n, double most);

}  // namespace kiln::optim
