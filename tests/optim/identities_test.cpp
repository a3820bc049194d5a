// What the mathematics says about the optimizers, in fp64 on the references, and in fp32 on what is shipped.
#include <gtest/gtest.h>

#include "optim/matrix_root.h"
#include "optim/muon.h"
#include "optim/pro_kl_shampoo.h"
#include "tests/optim/batch.h"
#include "tests/optim/reference_shampoo.h"

namespace kiln::tests {
namespace {

using namespace reference;

Matrix noise(int64_t rows, int64_t cols, uint64_t stream, double deviation = 1) {
  return {static_cast<size_t>(rows), static_cast<size_t>(cols), normals(rows * cols, stream, deviation)};
}
Matrix restricted(const Matrix& u, const Matrix& s, double mu) {  // U S U^T + mu (I - U U^T)
  return u * s * transpose(u) + mu * (identity(u.rows) - u * transpose(u));
}
double least(const std::vector<double>& values) {
  return *std::min_element(values.begin(), values.end());
}
double largest(const Matrix& a) {
  double most = 0;
  for (double v : a.x) most = std::max(most, std::abs(v));
  return most;
}

// 1. At r = n Pro-KLShampoo is KL-Shampoo whose right root comes from an eigen-decomposition.
TEST(Identity, FullRankIsKlShampoo) {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{12, 12}, {9, 17}}) {
    reference::ProKlShampoo pro;
    pro.rank = 1000, pro.refresh = 3;
    reference::KlShampoo kl;
    kl.exact_right = true, kl.eps = 0, kl.refresh = 3;
    Matrix w = weights(rows, cols), v = w, start = w;
    for (uint64_t t = 1; t <= 30; t++) {
      const Matrix g = gradient(rows, cols, t);
      pro.step(w, g), kl.step(v, g);
    }
    EXPECT_LE(relative_error(w, v, start), 1e-10) << rows << " x " << cols;
  }
}

// What is left of Pro-KLShampoo where the subspace is empty: Muon's scale, 0.2 sqrt(max(m, n)).
optim::ProKlShampooOptions pro_without_subspace(double decay) {
  return {.b1 = 0.95,
          .wd = decay,
          .rank = 0,
          .complement = optim::Complement::polar,
          .scale = optim::ComplementScale::fixed,
          .complement_factor = 0.2,
          .set = &optim::newton_schulz_set("jordan")};
}

// 2. At r = 0 with `polar` the direction is Newton-Schulz of Muon's momentum without Nesterov; with
// `isotropic` one-sided whitening.
TEST(Identity, RankZeroIsMuonOrOneSidedWhitening) {
  optim::ProKlShampoo pro(pro_without_subspace(0.1));
  reference::Muon muon;
  muon.lr = 0.005, muon.nesterov = false;
  Batch batch(pro, 24, 40);
  Matrix w = weights(24, 40);
  const Matrix start = w;
  batch.set_param(0, w);
  for (int t = 1; t <= 10; t++) {
    const Matrix g = gradient(24, 40, static_cast<uint64_t>(t));
    batch.set_grad(0, g);
    batch.step(t);
    if (t == 1) continue;  // the seed step
    w = w - 0.005 * muon.direction(g);
    w = w - 0.005 * 0.1 * w;
  }
  // Both are at the fp32 rounding of five Newton-Schulz steps; weights move by .001 where they are .02.
  EXPECT_LE(relative_error(batch.param(0), w, start), 1e-5);

  // The direction itself, from weights of zero, where no rounding of the weight hides it.
  const auto options = pro_without_subspace(0);
  optim::ProKlShampoo alone(options);
  optim::Muon plain({.lr = options.lr, .mu = options.b1, .wd = 0, .nesterov = false, .set = options.set});
  Batch left(alone, 24, 40), right(plain, 24, 40);
  left.set_grad(0, gradient(24, 40, 1));
  left.step(1);  // the seed step
  for (int t = 2; t <= 4; t++) {
    const Matrix zero(24, 40), g = gradient(24, 40, static_cast<uint64_t>(t));
    for (Batch* side : {&left, &right}) {
      side->set_param(0, zero);
      side->set_grad(0, g);
      side->step(t);
    }
    EXPECT_LE(relative_error(left.param(0), right.param(0), zero), 1e-6) << "step " << t;
  }

  reference::ProKlShampoo one_sided;
  one_sided.rank = 0, one_sided.complement = "isotropic";
  Matrix v = weights(10, 20);
  for (uint64_t t = 1; t <= 5; t++) one_sided.step(v, gradient(10, 20, t));
  const auto before = one_sided.roots();
  const Matrix direction = one_sided.direction(before);
  const Matrix expected =
      1 / std::sqrt(one_sided.mu) * (power(one_sided.qa, one_sided.la, -0.5) * one_sided.m);
  EXPECT_LE(norm(direction - expected), 1e-12 * norm(expected));
}

// 3. polar(S_a^(-1/2) M') = S_a^(-1/2) M' (M'^T S_a^-1 M')^(-1/2); and the closed forms of R^-1 and R^(-1/2).
TEST(Identity, PolarFactorIsWhitening) {
  const size_t m = 7, n = 12, r = 4;
  const Matrix u = qr(noise(12, 4, 1)), h = noise(7, 21, 2), sa = 1.0 / 21 * (h * transpose(h));
  const Matrix raw = noise(7, 12, 3), outside = raw - raw * u * transpose(u);
  const auto left = eigen(sa);
  const Matrix x = power(left.vectors, left.values, -0.5) * outside;
  const auto spectrum = eigen(x * transpose(x));
  ASSERT_LE(std::sqrt(spectrum.values[0] / spectrum.values[m - 1]), 30);
  const Matrix polar = power(spectrum.vectors, spectrum.values, -0.5) * x;
  // The pseudo-inverse root of M'^T S_a^-1 M' at its rank, min(m, n - r) = 7.
  const auto right = eigen(transpose(outside) * power(left.vectors, left.values, -1) * outside);
  ASSERT_EQ(std::min(m, n - r), m);
  const Matrix leading = columns(right.vectors, m);
  const Matrix root =
      power(leading, std::vector<double>(right.values.begin(), right.values.begin() + 7), -0.5);
  EXPECT_LE(norm(polar - x * root), 1e-12 * norm(polar));

  const Matrix b = noise(4, 9, 4), s = b * transpose(b);
  const double mu = 0.37;
  const auto core = eigen(s), dense = eigen(restricted(u, s, mu));
  for (const double exponent : {-1.0, -0.5}) {
    const Matrix closed = restricted(u, power(core.vectors, core.values, exponent), std::pow(mu, exponent));
    const Matrix expected = power(dense.vectors, dense.values, exponent);
    EXPECT_LE(norm(closed - expected), 1e-12 * norm(expected)) << exponent;
  }
}

// 4. With S = U^T C U and mu the tail's arithmetic mean, the KL divergence exceeds that of R = C by
// m(n-r)/2 log(AM/GM) of the discarded eigenvalues. The divergence of N(0, S_a (x) C) from N(0, S_a (x) R),
// evaluated on the whole mn x mn covariances: half of tr(B^-1 A) - mn + log det B - log det A.
TEST(Identity, PriceOfTheRestriction) {
  const size_t m = 4, n = 11, r = 3;
  const Matrix q = qr(noise(11, 11, 1)), h = noise(4, 9, 2), sa = h * transpose(h);
  std::vector<double> l = {40, 25, 9, 1.9, 1.6, 1.2, 1.1, 0.9, 0.8, 0.6, 0.5};
  const Matrix c = power(q, l, 1), u = columns(q, r);
  double mean = 0, logs = 0;
  for (size_t i = r; i < n; i++) {
    mean += l[i] / static_cast<double>(n - r);
    logs += std::log(l[i]) / static_cast<double>(n - r);
  }
  const Matrix model = restricted(u, transpose(u) * c * u, mean);
  const auto kronecker = [&](const Matrix& right) {
    Matrix out(m * n, m * n);
    for (size_t i = 0; i < m * n; i++) {
      for (size_t j = 0; j < m * n; j++) out(i, j) = sa(i / n, j / n) * right(i % n, j % n);
    }
    return out;
  };
  const auto log_determinant = [](const std::vector<double>& values) {
    double sum = 0;
    for (double v : values) sum += std::log(v);
    return sum;
  };
  const Matrix a = kronecker(c);
  const auto spectrum_a = eigen(a), spectrum_b = eigen(kronecker(model));
  const double divergence =
      0.5 * (trace(power(spectrum_b.vectors, spectrum_b.values, -1) * a) - static_cast<double>(m * n) +
             log_determinant(spectrum_b.values) - log_determinant(spectrum_a.values));
  EXPECT_NEAR(divergence, 0.5 * static_cast<double>(m * (n - r)) * (std::log(mean) - logs), 1e-10);
}

// 5. Orthogonality, symmetry, and the trace that a tracker step must not change, in fp64.
TEST(Identity, TrackerKeepsTheTrace) {
  reference::ProKlShampoo pro;
  pro.rank = 5;
  Matrix w = weights(9, 20);
  pro.step(w, gradient(9, 20, 1));
  for (uint64_t t = 2; t <= 40; t++) {
    const Matrix g = gradient(9, 20, t);
    const auto before = pro.roots();
    const double total = trace(pro.s) + 15 * pro.mu;
    const Matrix u = pro.u;
    pro.step(w, g);
    const double whitened = norm(before.left * g);
    // The tracker's part leaves the total as it was, so only the averages change it.
    EXPECT_NEAR(trace(pro.s) + 15 * pro.mu, 0.95 * total + 0.05 * whitened * whitened / 9, 1e-12 * total);
    EXPECT_LE(largest(transpose(pro.u) * pro.u - identity(5)), 1e-13);
    EXPECT_LE(largest(pro.s - transpose(pro.s)), 1e-13 * norm(pro.s));
    EXPECT_GT(least(eigen(pro.s).values), 0);
    EXPECT_LE(norm(pro.d2 * u), 1e-13 * norm(pro.d2));
  }
}

// The same of what is shipped, at the rounding of fp32 (some 1e-7 for each of a few hundred terms).
TEST(Identity, TrackerKeepsTheTraceInFp32) {
  optim::ProKlShampoo pro({.rank = 8, .set = &optim::newton_schulz_set("polar_express")});
  Batch batch(pro, 24, 60);
  batch.set_param(0, weights(24, 60));
  double total = 0;
  for (int t = 1; t <= 30; t++) {
    const Matrix g = gradient(24, 60, static_cast<uint64_t>(t));
    batch.set_grad(0, g);
    double expected = 0;
    if (t > 1) {
      const Matrix whitened = power(batch.state("q_a"), batch.state("l_a").x, -0.5) * g;
      expected = 0.95 * total + 0.05 * norm(whitened) * norm(whitened) / 24;
    }
    batch.step(t);
    const Matrix u = batch.state("u"), s = batch.state("s");
    total = trace(s) + 52 * batch.state("mu").x[0];
    if (t > 1) {
      EXPECT_NEAR(total, expected, 1e-5 * expected);
    }
    EXPECT_LE(largest(transpose(u) * u - identity(8)), 2e-6);
    EXPECT_EQ(largest(s - transpose(s)), 0);
    EXPECT_GT(least(eigen(s).values), 0);
  }
}

// 6. On i.i.d. noise the update's RMS tends to sqrt((1-b1)/(1+b1)).
TEST(Identity, RmsOfTheUpdate) {
  const double b1 = 0.9, expected = std::sqrt((1 - b1) / (1 + b1));
  for (const char* set : {"polar_express", "jordan"}) {
    reference::KlShampoo kl;
    kl.b1 = b1, kl.b2 = 0.98;
    reference::ProKlShampoo pro;
    pro.b1 = b1, pro.b2 = 0.98, pro.rank = 16, pro.set = set;
    Matrix w = weights(32, 64), v = w;
    double kl_sum = 0, inside = 0, outside = 0, steps = 0;
    for (uint64_t t = 1; t <= 400; t++) {
      const Matrix g = noise(32, 64, 7000 + t, 0.01);
      const Matrix old = w;
      kl.wd = 0;
      kl.step(w, g), pro.step(v, g);
      if (t <= 200) continue;
      steps++;
      kl_sum += std::pow(rms(old - w) / kl.lr, 2);
      // D_1 lives in r of n dimensions, D_2 in the others: mean squares over as many elements.
      inside += std::pow(norm(pro.d1), 2) / (32 * 16);
      outside += std::pow(norm(pro.d2), 2) / (32 * 48);
    }
    EXPECT_NEAR(std::sqrt(kl_sum / steps) / expected, 1, 0.01);
    EXPECT_NEAR(std::sqrt(inside / steps) / expected, 1, 0.01);
    if (std::string_view(set) == "polar_express") {
      EXPECT_NEAR(std::sqrt(outside / steps) / expected, 1, 0.03);
    } else {
      EXPECT_NEAR(std::sqrt(outside / steps) / expected, 0.86, 0.03);  // that set's singular values are low
    }
  }
}

// 8. Planted spikes are found, and mu is the mean of the tail.
TEST(Identity, TrackerFindsPlantedSpikes) {
  const int64_t m = 64, n = 256;
  const Matrix spikes = qr(noise(n, 8, 5));
  optim::ProKlShampoo pro({.b2 = 0.98, .rank = 24, .set = &optim::newton_schulz_set("polar_express")});
  Batch batch(pro, m, n);
  batch.set_param(0, weights(m, n));
  for (int t = 1; t <= 700; t++) {
    Matrix g = noise(m, n, 20000 + static_cast<uint64_t>(t), 0.01);
    g = g + (std::sqrt(2.0) - 1) * (g * spikes * transpose(spikes));  // variance 2 along them
    batch.set_grad(0, g);
    batch.step(t);
    if (t < 500 || t % 50 != 0) continue;
    const Matrix overlap = transpose(batch.state("u")) * spikes;
    EXPECT_GT(std::sqrt(least(eigen(transpose(overlap) * overlap).values)), 0.9) << t;
    const Matrix whitened = power(batch.state("q_a"), batch.state("l_a").x, -0.5);
    const double level = norm(whitened) * norm(whitened) / static_cast<double>(m) * 1e-4;  // of the bulk
    EXPECT_NEAR(batch.state("mu").x[0] / level, 1, 0.03) << t;
  }
}

// 9. Where singular values end, by the set.
TEST(Identity, NewtonSchulzSingularValues) {
  const struct {
    const char* set;
    double low, high;
  } cases[] = {{"jordan", 0.682, 1.202}, {"polar_express", 0.859, 1.141}};
  for (const auto& c : cases) {
    // Odd polynomials act on each singular value by itself: a diagonal matrix shows them.
    const size_t n = 48;
    Matrix x(n, n);
    for (size_t i = 0; i < n; i++)
      x(i, i) = std::pow(2e-3, static_cast<double>(i) / static_cast<double>(n - 1));
    const double size = norm(x);
    const Matrix out = newton_schulz(x, c.set);
    double low = 9, high = 0;
    for (size_t i = 0; i < n; i++) {
      if (x(i, i) / size < 2e-3) continue;
      low = std::min(low, out(i, i));
      high = std::max(high, out(i, i));
    }
    EXPECT_GE(low, c.low - 0.005) << c.set;
    EXPECT_LE(high, c.high + 0.005) << c.set;

    Machine machine;
    std::vector<char> scratch(64 << 20);
    machine.context.workspace = Workspace(scratch.data(), scratch.size());
    std::vector<float> in(x.x.begin(), x.x.end()), result(in.size());
    float *from = in.data(), *to = result.data();
    for (const DType factors : {DType::f32, DType::bf16}) {
      if (factors == DType::bf16 && !kernels::has_bf16_products(machine.context.device)) continue;
      in.assign(x.x.begin(), x.x.end());
      optim::newton_schulz(machine.context, &to, &from, 1, 48, 48, optim::newton_schulz_set(c.set), factors);
      // bf16 keeps 8 bits: 2^-9 for each factor, times the steepness of the polynomials at the ends.
      const double slack = factors == DType::f32 ? 0.005 : 0.06;
      for (size_t i = 0; i < n; i++) {
        if (x(i, i) / size < 2e-3) continue;
        EXPECT_GE(result[i * n + i], c.low - slack) << c.set << name_of(factors);
        EXPECT_LE(result[i * n + i], c.high + slack) << c.set << name_of(factors);
      }
    }
  }
}

}  // namespace
}  // namespace kiln::tests
