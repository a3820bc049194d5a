// Causal attention and its gradient in fp64, written from the definition alone: scores, a softmax over each
// row, and the softmax's Jacobian; every matrix is kept. All tensors are dense: q, out (B, T, heads,
// head_size); k, v (B, T, kv_heads, head_size); lse (B, heads, T); score, probability, d_score (B, heads, T,
// T), zero above the diagonal.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace kiln::tests::reference {

struct AttentionShape {
  int64_t B, T, heads, kv_heads, head_size;

  int64_t kv_head(int64_t h) const { return h / (heads / kv_heads); }
  int64_t q(int64_t b, int64_t t, int64_t h, int64_t d) const {
    return ((b * T + t) * heads + h) * head_size + d;
  }
  int64_t kv(int64_t b, int64_t t, int64_t h, int64_t d) const {  // of the key/value head that head h reads
    return ((b * T + t) * kv_heads + kv_head(h)) * head_size + d;
  }
  int64_t row(int64_t b, int64_t h, int64_t t) const { return (b * heads + h) * T + t; }
  int64_t pair(int64_t b, int64_t h, int64_t t, int64_t u) const { return row(b, h, t) * T + u; }
  int64_t q_elements() const { return B * T * heads * head_size; }
  int64_t kv_elements() const { return B * T * kv_heads * head_size; }
  int64_t rows() const { return B * heads * T; }

  // Calls f(b, h, t, u) for every score on and below the diagonal.
  template <class F>
  void for_each_pair(F f) const {
    for (int64_t b = 0; b < B; b++) {
      for (int64_t h = 0; h < heads; h++) {
        for (int64_t t = 0; t < T; t++) {
          for (int64_t u = 0; u <= t; u++) f(b, h, t, u);
        }
      }
    }
  }
};

using Doubles = std::vector<double>;

inline double& at(Doubles& x, int64_t i) {
  return x[static_cast<size_t>(i)];
}
inline double at(const Doubles& x, int64_t i) {
  return x[static_cast<size_t>(i)];
}
inline Doubles zeros(int64_t n) {
  return Doubles(static_cast<size_t>(n));
}

struct AttentionValues {
  Doubles out, lse, score, probability;
};

inline AttentionValues reference_attention(const AttentionShape& s, double scale, const Doubles& q,
                                           const Doubles& k, const Doubles& v) {
  AttentionValues r{zeros(s.q_elements()), zeros(s.rows()), zeros(s.rows() * s.T), zeros(s.rows() * s.T)};
  Doubles maximum(static_cast<size_t>(s.rows()), -std::numeric_limits<double>::infinity()),
      sum = zeros(s.rows());
  s.for_each_pair([&](int64_t b, int64_t h, int64_t t, int64_t u) {
    double dot = 0;
    for (int64_t d = 0; d < s.head_size; d++) dot += at(q, s.q(b, t, h, d)) * at(k, s.kv(b, u, h, d));
    at(r.score, s.pair(b, h, t, u)) = scale * dot;
    at(maximum, s.row(b, h, t)) = std::fmax(at(maximum, s.row(b, h, t)), scale * dot);
  });
  s.for_each_pair([&](int64_t b, int64_t h, int64_t t, int64_t u) {
    at(sum, s.row(b, h, t)) += std::exp(at(r.score, s.pair(b, h, t, u)) - at(maximum, s.row(b, h, t)));
  });
  for (int64_t i = 0; i < s.rows(); i++) at(r.lse, i) = at(maximum, i) + std::log(at(sum, i));
  s.for_each_pair([&](int64_t b, int64_t h, int64_t t, int64_t u) {
    const int64_t row = s.row(b, h, t), pair = s.pair(b, h, t, u);
    const double probability = std::exp(at(r.score, pair) - at(maximum, row)) / at(sum, row);
    at(r.probability, pair) = probability;
    for (int64_t d = 0; d < s.head_size; d++)
      at(r.out, s.q(b, t, h, d)) += probability * at(v, s.kv(b, u, h, d));
  });
  return r;
}

struct AttentionGradients {
  Doubles d_q, d_k, d_v, d_score;
};

// Gradients of sum(d_out * out).
inline AttentionGradients reference_attention_gradients(const AttentionShape& s, double scale,
                                                        const Doubles& q, const Doubles& k, const Doubles& v,
                                                        const Doubles& d_out) {
  const AttentionValues f = reference_attention(s, scale, q, k, v);
  AttentionGradients r{zeros(s.q_elements()), zeros(s.kv_elements()), zeros(s.kv_elements()),
                       zeros(s.rows() * s.T)};
  Doubles d_probability = zeros(s.rows() * s.T), mean = zeros(s.rows());
  s.for_each_pair([&](int64_t b, int64_t h, int64_t t, int64_t u) {
    const int64_t pair = s.pair(b, h, t, u);
    const double probability = at(f.probability, pair);
    for (int64_t d = 0; d < s.head_size; d++) {
      at(d_probability, pair) += at(d_out, s.q(b, t, h, d)) * at(v, s.kv(b, u, h, d));
      at(r.d_v, s.kv(b, u, h, d)) += probability * at(d_out, s.q(b, t, h, d));
    }
    at(mean, s.row(b, h, t)) += probability * at(d_probability, pair);
  });
  s.for_each_pair([&](int64_t b, int64_t h, int64_t t, int64_t u) {
    const int64_t pair = s.pair(b, h, t, u);
    const double d_score = at(f.probability, pair) * (at(d_probability, pair) - at(mean, s.row(b, h, t)));
    at(r.d_score, pair) = d_score;
    for (int64_t d = 0; d < s.head_size; d++) {
      at(r.d_q, s.q(b, t, h, d)) += scale * d_score * at(k, s.kv(b, u, h, d));
      at(r.d_k, s.kv(b, u, h, d)) += scale * d_score * at(q, s.q(b, t, h, d));
    }
  });
  return r;
}

}  // namespace kiln::tests::reference
