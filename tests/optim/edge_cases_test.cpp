// Zero first gradients, rank-deficient gradients, ranks above sizes, failed factorisations, one call per
// shape.
#include "optim/kl_shampoo.h"
#include "optim/muon.h"
#include "optim/pro_kl_shampoo.h"
#include "tests/optim/batch.h"
#include "tests/optim/recorder.h"
#include "tests/optim/reference_shampoo.h"

namespace kiln::tests {
namespace {

using namespace optim;

std::vector<std::unique_ptr<Optimizer>> with_statistics() {
  std::vector<std::unique_ptr<Optimizer>> all;
  for (const Root root : {Root::eigenbasis, Root::newton_schulz}) {
    all.push_back(std::make_unique<KlShampoo>(KlShampooOptions{.root = root}));
    for (const Tracker tracker : {Tracker::orthogonal, Tracker::accumulate}) {
      all.push_back(std::make_unique<ProKlShampoo>(ProKlShampooOptions{
          .root = root, .rank = 4, .tracker = tracker, .set = &newton_schulz_set("polar_express")}));
    }
  }
  return all;
}

TEST(EdgeCases, SeedingWaitsForAGradientAndMovesNothing) {
  for (const auto& optimizer : with_statistics()) {
    Batch batch(*optimizer, 12, 20, 2);
    const Matrix w = weights(12, 20), zero(12, 20);
    for (size_t k = 0; k < 2; k++) batch.set_param(k, w), batch.set_grad(k, zero);
    batch.step(1);
    EXPECT_TRUE(batch.state_is_zero()) << optimizer->name();
    batch.set_grad(1, gradient(12, 20, 1));
    batch.step(2);  // seeds the second only
    EXPECT_EQ(batch.state("s_a", 0).x, std::vector<double>(144, 0.0));
    EXPECT_GT(reference::trace(batch.state("s_a", 1)), 0);
    EXPECT_EQ(reference::norm(batch.state("m", 1)), 0);
    EXPECT_EQ(batch.param(0).x, w.x);
    EXPECT_EQ(batch.param(1).x, w.x);
    batch.set_grad(0, gradient(12, 20, 2));
    batch.step(3);  // seeds the first, steps the second
    EXPECT_EQ(batch.param(0).x, w.x);
    EXPECT_NE(batch.param(1).x, w.x);
    EXPECT_EQ(reference::norm(batch.state("m", 0)), 0);
  }
}

// n numbers of few bits, so that sums of products of them are exact in fp32.
std::vector<double> coarse(int64_t n, uint64_t stream, double unit) {
  auto x = normals(n, stream);
  for (double& v : x) v = std::round(8 * v) * unit;
  return x;
}

// Gradients of rank 4, to the bit, for 1000 steps: the update must stay in their row space. Without floors,
// rounding outside of it is amplified to most of the update's energy (81 % for KL-Shampoo in a prototype, .16
// % with them).
TEST(EdgeCases, RankDeficientGradientsStayInTheirSpace) {
  const Matrix right(4, 40, coarse(160, 5, 0.125));
  const Matrix basis = reference::qr(reference::transpose(right));
  for (const auto& optimizer : with_statistics()) {
    Batch batch(*optimizer, 24, 40);
    batch.set_param(0, Matrix(24, 40));
    for (int t = 1; t <= 1000; t++) {
      const Matrix left(24, 4, coarse(96, 100 + static_cast<uint64_t>(t), 0x1p-10));
      batch.set_grad(0, left * right);
      batch.step(t);
    }
    const Matrix w = batch.param(0), outside = w - w * basis * reference::transpose(basis);
    EXPECT_GT(reference::norm(w), 0);
    EXPECT_LE(std::pow(reference::norm(outside) / reference::norm(w), 2), 0.005)
        << optimizer->name() << " state " << optimizer->state(24, 40).size();
  }
}

TEST(EdgeCases, RankAboveTheSideIsTheSide) {
  const ProKlShampoo pro({.rank = 1000, .set = &newton_schulz_set("polar_express")});
  EXPECT_EQ(pro.effective_rank(6, 9), 9);
  EXPECT_EQ(pro.effective_rank(9, 6), 9);
  const ProKlShampoo input(
      {.rank = 1000, .orientation = Orientation::input, .set = &newton_schulz_set("polar_express")});
  EXPECT_EQ(input.effective_rank(9, 6), 6);
  // More directions than the gradient has: Householder QR completes U.
  ProKlShampoo completed({.rank = 16, .set = &newton_schulz_set("polar_express")});
  Batch batch(completed, 8, 30);
  batch.set_grad(0, Matrix(8, 3, normals(24, 1)) * Matrix(3, 30, normals(90, 2)));
  batch.set_param(0, weights(8, 30));
  batch.step(1);
  const Matrix u = batch.state("u"), product = reference::transpose(u) * u;
  for (size_t i = 0; i < 16; i++) {
    for (size_t j = 0; j < 16; j++) EXPECT_NEAR(product(i, j), i == j ? 1 : 0, 1e-6);
  }
}

// A broken statistic (here: infinity in the state) must not end the run, and is counted.
TEST(EdgeCases, FailedFactorisationsAreCounted) {
  KlShampoo kl({.refresh = 2});
  Batch batch(kl, 8, 8);
  batch.set_param(0, weights(8, 8));
  batch.set_grad(0, gradient(8, 8, 1));
  batch.step(1);
  const Matrix before = batch.state("q_a");
  batch.batch.state[1][0][3] = batch.batch.state[1][0][3 * 8] = INFINITY;  // S_a
  batch.set_grad(0, gradient(8, 8, 2));
  batch.step(2);
  EXPECT_EQ(kl.events().failed, 1);
  EXPECT_EQ(batch.state("q_a").x, before.x);  // the old basis stays
  EXPECT_TRUE(std::isfinite(reference::norm(batch.param(0))));
}

// As above, of Pro-KLShampoo: the left basis and U stay; S^(-1/2), which is made anew at every step, is that of the identity
// where S is not finite.
TEST(EdgeCases, FailedFactorisationsOfProAreCounted) {
  const ProKlShampooOptions options{.wd = 0,
                                    .refresh = 2,
                                    .rank = 5,
                                    .tracker = Tracker::accumulate,
                                    .tracker_every = 2,
                                    .set = &newton_schulz_set("polar_express")};
  const auto broken = [](Matrix s) {
    s(0, 3) = INFINITY;
    if (s.rows == s.cols) s(3, 0) = INFINITY;
    return s;
  };
  for (const char* state : {"s_a", "y", "s"}) {
    SCOPED_TRACE(state);
    ProKlShampoo pro(options);
    Batch batch(pro, 8, 12);
    batch.set_param(0, weights(8, 12));
    batch.set_grad(0, gradient(8, 12, 1));
    batch.step(1);
    const Matrix qa = batch.state("q_a"), u = batch.state("u"), s = batch.state("s");
    batch.set_state(state, broken(batch.state(state)));
    batch.set_param(0, Matrix(8, 12));
    batch.set_grad(0, gradient(8, 12, 2));
    Recorder recorder;
    batch.step(2, 1, 1, &recorder);
    EXPECT_EQ(pro.events().failed, 1);
    EXPECT_EQ(recorder.values.at("pro-kl-shampoo.failed_factorisations"), 1);
    const std::string which = state;
    EXPECT_EQ(batch.state("q_a").x == qa.x, which == "s_a");
    EXPECT_EQ(batch.state("u").x == u.x, which == "y");
    if (which == "s") {
      EXPECT_FALSE(recorder.values.contains("matrix0.subspace_eigenvalue_min"));
      // D_1 = X U U^T: with D_2 = c NewtonSchulz(X - X U U^T) outside of span(U), D U = X U.
      const Matrix x = reference::power(qa, std::vector<double>(8, s(0, 0)), -0.5) * batch.state("m");
      const Matrix d = -1 / options.lr * batch.param(0);
      EXPECT_LE(reference::norm(d * u - x * u), 1e-5 * reference::norm(x * u));
    }
    EXPECT_TRUE(std::isfinite(reference::norm(batch.param(0))));
    for (int t = 3; t <= 8; t++) {
      batch.set_grad(0, gradient(8, 12, static_cast<uint64_t>(t)));
      batch.step(t);
      EXPECT_TRUE(std::isfinite(reference::norm(batch.param(0)))) << t;
    }
  }
}

// Elements of 2.5e38 fit into fp32, the norm of eight of them does not: fp64 does it, and no basis is left as it was.
TEST(EdgeCases, RetriedFactorisationsAreCounted) {
  KlShampoo kl({.refresh = 2});
  ProKlShampoo pro({.refresh = 2, .rank = 3, .set = &newton_schulz_set("polar_express")});
  for (Optimizer* optimizer : {static_cast<Optimizer*>(&kl), static_cast<Optimizer*>(&pro)}) {
    Batch batch(*optimizer, 8, 12);
    batch.set_param(0, weights(8, 12));
    batch.set_grad(0, gradient(8, 12, 1));
    batch.step(1);
    batch.set_state("q_a", reference::identity(8));
    Matrix s = reference::identity(8, 2e38);
    for (double& v : s.x) v += 0.5e38;
    batch.set_state("s_a", s);
    batch.set_grad(0, gradient(8, 12, 2));
    Recorder recorder;
    batch.step(2, 1, 1, &recorder);
    const std::string name(optimizer->name());
    EXPECT_EQ(recorder.values.at(name + ".retried_factorisations"), 1) << name;
    EXPECT_EQ(recorder.values.at(name + ".failed_factorisations"), 0) << name;
    const Matrix q = batch.state("q_a"), gram = reference::transpose(q) * q;
    EXPECT_NE(q.x, reference::identity(8).x);
    EXPECT_LE(reference::norm(gram - reference::identity(8)), 1e-5);
  }
}

// One call per shape: the number of kernel calls does not grow with the number of matrices.
TEST(EdgeCases, OneCallPerShape) {
  auto all = with_statistics();
  all.push_back(std::make_unique<Muon>(MuonOptions{.set = &newton_schulz_set("jordan")}));
  for (const auto& optimizer : all) {
    Batch one(*optimizer, 12, 20, 1), many(*optimizer, 12, 20, 9);
    EXPECT_EQ(one.dry_run.kernel_calls, many.dry_run.kernel_calls) << optimizer->name();
    EXPECT_GT(one.dry_run.kernel_calls.at("matrix_product"), 0);
  }
}

TEST(EdgeCases, SameBitsForAnyNumberOfThreads) {
  auto all = with_statistics();
  const DType factors = kernels::has_bf16_products(cpu_device(1)) ? DType::bf16 : DType::f32;
  all.push_back(std::make_unique<Muon>(MuonOptions{.set = &newton_schulz_set("jordan"), .factors = factors}));
  for (const auto& optimizer : all) {
    std::vector<std::vector<std::vector<float>>> results;
    for (const int threads : {1, 3}) {
      Batch batch(*optimizer, 130, 300, 3, 0, threads);
      for (size_t k = 0; k < 3; k++) batch.set_param(k, weights(130, 300, k));
      for (int t = 9; t <= 11; t++) {
        for (size_t k = 0; k < 3; k++) batch.set_grad(k, gradient(130, 300, static_cast<uint64_t>(t), k));
        batch.step(t);
      }
      results.push_back(batch.bits());
    }
    EXPECT_EQ(results[0], results[1]) << optimizer->name();
  }
}

// The formulas of docs/optimizers.md, in elements.
TEST(EdgeCases, StateHasAsManyElementsAsPromised) {
  const auto elements = [](const Optimizer& optimizer, int64_t rows, int64_t cols) {
    int64_t sum = 0;
    for (const StateSpec& s : optimizer.state(rows, cols)) sum += s.rows * s.cols;
    return sum;
  };
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{48, 192}, {192, 48}, {33, 100}, {7, 7}}) {
    const int64_t m = std::min(rows, cols), n = std::max(rows, cols), r = std::min<int64_t>(16, n);
    EXPECT_EQ(elements(Muon({}), rows, cols), m * n);
    EXPECT_EQ(elements(KlShampoo({}), rows, cols), m * n + 2 * m * m + 2 * n * n + m + n);
    EXPECT_EQ(elements(KlShampoo({.root = Root::newton_schulz}), rows, cols), m * n + m * m + n * n);
    EXPECT_EQ(elements(ProKlShampoo({.rank = 16}), rows, cols), m * n + 2 * m * m + m + n * r + r * r + 1);
    EXPECT_EQ(elements(ProKlShampoo({.rank = 16, .tracker = Tracker::accumulate}), rows, cols),
              m * n + 2 * m * m + m + 2 * n * r + r * r + 1);
    EXPECT_EQ(elements(ProKlShampoo({.root = Root::newton_schulz, .rank = 16}), rows, cols),
              m * n + m * m + n * r + r * r + 1);
  }
}

}  // namespace
}  // namespace kiln::tests
