#include <complex>

#include "tests/kernels/support.h"

namespace kiln::tests {
namespace {

struct Problem {
  int64_t B, T, heads, head_size, gap, first;  // gap: elements between the rotated heads and the next token
  double theta;
};
constexpr Problem kProblems[] = {{1, 1, 1, 2, 0, 0, 10000},    {2, 3, 2, 4, 3, 0, 10000},
                                 {1, 37, 3, 6, 1, 5, 500},     {3, 17, 5, 34, 7, 0, 1e6},
                                 {2, 65, 2, 64, 64, 0, 10000}, {1, 1, 6, 128, 0, 1023, 10000},
                                 {1, 300, 1, 66, 0, 700, 1}};

int64_t stride(const Problem& p) {
  return p.heads * p.head_size + p.gap;
}

// Each pair of channels as a complex number, turned.
std::vector<double> turned(const Problem& p, const Guarded<float>& x, bool inverse) {
  std::vector<double> out = to_double(x);
  const int64_t half = p.head_size / 2;
  for (int64_t b = 0; b < p.B; b++) {
    for (int64_t t = 0; t < p.T; t++) {
      for (int64_t h = 0; h < p.heads; h++) {
        for (int64_t i = 0; i < half; i++) {
          const double frequency =
              std::exp(-std::log(p.theta) * 2 * static_cast<double>(i) / static_cast<double>(p.head_size));
          const double angle = static_cast<double>(p.first + t) * frequency * (inverse ? -1 : 1);
          const auto at = static_cast<size_t>((b * p.T + t) * stride(p) + h * p.head_size + i);
          const auto other = at + static_cast<size_t>(half);
          const std::complex<double> z = std::complex<double>(out[at], out[other]) * std::polar(1.0, angle);
          out[at] = z.real(), out[other] = z.imag();
        }
      }
    }
  }
  return out;
}

Guarded<float> rotate(Isa isa, int threads, const Problem& p, Guarded<float> x, bool inverse) {
  Runner runner(isa, threads);
  Guarded<float> angles(p.T * p.head_size);
  runner.run(kernels::rotary_angles,
             kernels::RotaryAngles{angles.data(), p.first, p.T, p.head_size, p.theta, DType::f32});
  runner.run(kernels::rotary, kernels::Rotary{x.data(), angles.data(), p.B, p.T, p.heads, p.head_size,
                                              stride(p), inverse, DType::f32});
  return x;
}

Guarded<float> input(const Problem& p) {
  return normal(p.B * p.T * stride(p), "x");
}

TEST(Rotary, MatchesComplexNumbers) {
  for (Isa isa : isas()) {
    for (const Problem& p : kProblems) {
      SCOPED_TRACE(
          fmt::format("{} B={} T={} heads={} head_size={}", name_of(isa), p.B, p.T, p.heads, p.head_size));
      const auto x = input(p);
      for (bool inverse : {false, true}) {
        const auto expected = turned(p, x, inverse);
        // Cosine and sine are rounded once, products and their sum once each; what lies between the heads is untouched.
        // Angles of up to 1e3 in fp64 are off by 1e3 2^-53, which is far below.
        const auto bound = [&](int64_t i) {
          const int64_t inside = i % stride(p), half = p.head_size / 2;
          if (inside >= p.heads * p.head_size) return 0.0;
          const int64_t other = inside % p.head_size < half ? i + half : i - half;
          return 3 * kUnit * (std::fabs(x[i]) + std::fabs(x[other]));
        };
        expect_close("x", rotate(isa, 2, p, x, inverse), expected, bound);
      }
    }
  }
}

// Scores depend on the distance of two positions alone: what rotary embedding is for.
TEST(Rotary, ScoresDependOnDistances) {
  const int64_t head_size = 32;
  const auto q = normal(head_size, "q"), k = normal(head_size, "k");
  const auto score = [&](int64_t at_q, int64_t at_k) {
    const auto a = rotate(best_isa(), 1, {1, 1, 1, head_size, 0, at_q, 10000}, q, false);
    const auto b = rotate(best_isa(), 1, {1, 1, 1, head_size, 0, at_k, 10000}, k, false);
    double sum = 0;
    for (int64_t i = 0; i < head_size; i++) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    return sum;
  };
  double size = 0;  // 3 u on either side of each product, and the pair's other channel takes part
  for (int64_t i = 0; i < head_size; i++)
    size +=
        2 * (std::fabs(q[i]) + std::fabs(q[(i + 16) % 32])) * (std::fabs(k[i]) + std::fabs(k[(i + 16) % 32]));
  for (const auto& [at_q, at_k] : {std::pair<int64_t, int64_t>{5, 0}, {105, 100}, {1000, 995}}) {
    EXPECT_NEAR(score(at_q, at_k), score(12, 7), 6 * kUnit * size) << at_q;
  }
  EXPECT_GT(std::fabs(score(5, 0) - score(9, 0)), 1e-3);
}

// The rotation is orthogonal, so its transpose, which the backward pass needs, is its inverse.
TEST(Rotary, InverseTakesItBack) {
  for (Isa isa : isas()) {
    const Problem p{2, 19, 3, 10, 5, 3, 10000};
    const auto x = input(p);
    const auto back = rotate(isa, 2, p, rotate(isa, 2, p, x, false), true);
    const auto exact = to_double(x);
    expect_close("x", back, exact, [&](int64_t i) {
      const int64_t inside = i % stride(p), half = p.head_size / 2;
      if (inside >= p.heads * p.head_size) return 0.0;
      const int64_t other = inside % p.head_size < half ? i + half : i - half;
      return 12 * kUnit *
             (std::fabs(x[i]) + std::fabs(x[other]));  // 3 u of either number, twice, through sine and cosine
    });
  }
}

TEST(Rotary, DoesNotDependOnThreads) {
  const Problem p{3, 129, 5, 34, 3, 0, 10000};
  for (Isa isa : isas()) {
    const auto x = input(p), one = rotate(isa, 1, p, x, false);
    for (int threads : {2, 3}) EXPECT_TRUE(rotate(isa, threads, p, x, false).same_bits(one)) << name_of(isa);
  }
}

}  // namespace
}  // namespace kiln::tests
