// What the tests of attention share: problems with their fp64 answers, and how far an fp32 kernel may be off.
#pragma once

#include <algorithm>

#include "tests/kernels/reference_attention.h"
#include "tests/kernels/support.h"

namespace kiln::tests {

using reference::at;
using reference::AttentionGradients;
using reference::AttentionShape;
using reference::AttentionValues;
using reference::Doubles;
using reference::zeros;

inline std::string name_of(const AttentionShape& s) {
  return fmt::format("B={} T={} heads={} kv_heads={} head_size={}", s.B, s.T, s.heads, s.kv_heads,
                     s.head_size);
}

// Inputs of one problem, dense.
struct Problem {
  AttentionShape s;
  float scale;
  Guarded<float> q, k, v, d_out;

  explicit Problem(const AttentionShape& shape, double deviation = 1, double q_mean = 0, double k_mean = 0)
      : s(shape),
        scale(1 / std::sqrt(static_cast<float>(shape.head_size))),
        q(normal(shape.q_elements(), "q", deviation, q_mean)),
        k(normal(shape.kv_elements(), "k", deviation, k_mean)),
        v(normal(shape.kv_elements(), "v")),
        d_out(normal(shape.q_elements(), "d_out")) {}

  AttentionValues values() const {
    return reference_attention(s, scale, to_double(q), to_double(k), to_double(v));
  }
  AttentionGradients gradients() const {
    return reference_attention_gradients(s, scale, to_double(q), to_double(k), to_double(v),
                                         to_double(d_out));
  }
};

// Error bounds. u = 2^-24; every rounded operation multiplies its result by (1 + e), |e| <= u; a sum of n
// rounded terms errs by n u times the sum of magnitudes, in any order (see sum_error; one u more for what
// happens to each term).
inline constexpr double kExp = 4 * kUnit;  // exp of simd.h: 2 ulp
// Weights below e^-87 times the largest may become zero, and results below the smallest normal number
// inexact.
inline constexpr double kTiny = 0x1p-120;

inline double terms(int64_t n) {
  return static_cast<double>(n) * kUnit;
}

inline Doubles magnitudes(const Guarded<float>& x) {
  Doubles y = to_double(x);
  for (double& value : y) value = std::fabs(value);
  return y;
}

// Errors of scores: head_size products and one more rounding by the scale.
struct ScoreErrors {
  Doubles of_pair, largest_of_row;  // (B, heads, T, T), (B, heads, T)
  Doubles largest_score;            // (B, heads, T): in magnitude

  ScoreErrors(const Problem& problem, const AttentionValues& values)
      : of_pair(zeros(problem.s.rows() * problem.s.T)),
        largest_of_row(zeros(problem.s.rows())),
        largest_score(zeros(problem.s.rows())) {
    const AttentionShape& s = problem.s;
    const Doubles q = magnitudes(problem.q), k = magnitudes(problem.k);
    s.for_each_pair([&](int64_t b, int64_t h, int64_t t, int64_t u) {
      const int64_t row = s.row(b, h, t), pair = s.pair(b, h, t, u);
      double sum = 0;
      for (int64_t d = 0; d < s.head_size; d++) sum += at(q, s.q(b, t, h, d)) * at(k, s.kv(b, u, h, d));
      at(of_pair, pair) = terms(s.head_size + 1) * static_cast<double>(problem.scale) * sum;
      at(largest_of_row, row) = std::max(at(largest_of_row, row), at(of_pair, pair));
      at(largest_score, row) = std::max(at(largest_score, row), std::fabs(at(values.score, pair)));
    });
  }
};

struct ForwardBounds {
  Doubles out, lse;

  ForwardBounds(const Problem& problem, const AttentionValues& values, const ScoreErrors& scores)
      : out(zeros(problem.s.q_elements())), lse(zeros(problem.s.rows())) {
    const AttentionShape& s = problem.s;
    constexpr int64_t kKeysPerTile = 64;
    const int64_t tiles = (s.T + kKeysPerTile - 1) / kKeysPerTile;
    // Relative error of a weight of the online softmax: the arguments of its exponentials, one per tile of
    // keys, add up to score minus maximum, 2 (largest score + its error) at most, and each is rounded; every
    // tile brings an exponential and a product.
    const auto weight = [&](int64_t row) {
      return at(scores.largest_of_row, row) +
             2 * kUnit * (at(scores.largest_score, row) + at(scores.largest_of_row, row)) +
             static_cast<double>(tiles + 1) * (kExp + kUnit);
    };
    // The sum of T weights; a sum of T products with v; the reciprocal and the product with it.
    const Doubles v = magnitudes(problem.v);
    s.for_each_pair([&](int64_t b, int64_t h, int64_t t, int64_t u) {
      const double relative = std::expm1(2 * weight(s.row(b, h, t)) + 2 * terms(s.T + tiles) + 3 * kUnit);
      const double error = relative * at(values.probability, s.pair(b, h, t, u)) + kTiny;
      for (int64_t d = 0; d < s.head_size; d++) at(out, s.q(b, t, h, d)) += error * at(v, s.kv(b, u, h, d));
    });
    // lse = maximum + log(sum): the relative error of the sum, the logarithm's 2 ulp, a rounded addition.
    for (int64_t row = 0; row < s.rows(); row++) {
      const double log_sum = std::log(static_cast<double>(s.T)) + at(scores.largest_of_row, row);
      at(lse, row) = std::expm1(weight(row) + terms(s.T + tiles)) + 4 * kUnit * log_sum +
                     kUnit * (at(scores.largest_score, row) + at(scores.largest_of_row, row) + log_sum);
    }
  }
};

inline std::function<double(int64_t)> of(const Doubles& bounds) {
  return [&bounds](int64_t i) { return at(bounds, i); };
}

}  // namespace kiln::tests
