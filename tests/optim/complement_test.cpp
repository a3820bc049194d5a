// Pro-KLShampoo's D_2 as it is shipped: it lies outside of span(U), and there is none where nothing is left outside.
#include "optim/pro_kl_shampoo.h"
#include "tests/optim/batch.h"
#include "tests/optim/recorder.h"
#include "tests/optim/reference_shampoo.h"

namespace kiln::tests {
namespace {

using namespace optim;

ProKlShampooOptions options_of(int64_t rank) {
  return {.wd = 0, .rank = rank, .set = &newton_schulz_set("polar_express")};
}

// What Newton-Schulz products can be rounded to here.
std::vector<DType> factors() {
  if (kernels::has_bf16_products(cpu_device(1))) return {DType::f32, DType::bf16};
  return {DType::f32};
}

// D_1 + D_2 of one step: from weights of zero, without decay, it is all there is.
Matrix direction_of_step(Batch& batch, const ProKlShampooOptions& options, int t, const Matrix& g) {
  batch.set_param(0, Matrix(g.rows, g.cols));
  batch.set_grad(0, g);
  batch.step(t);
  return -1 / options.lr * batch.param(0);
}

// With n - r < m the orthogonalised complement has fewer than m directions to fill: Newton-Schulz turns rounding inside of
// span(U) into directions of size up to one. Projecting once more, D_2 = D - (D U) U^T, leaves the rounding of these two
// products, of n and of r terms: at most (n + r + 2) units in each term, and || |D| |U| ||_F <= sqrt(r) ||D||_F. Before it is
// projected D is at most a tenth longer than D_2. For D_1, which lies in span(U), S is so large that it is nothing.
TEST(Complement, LiesOutsideOfTheSubspace) {
  const struct { int64_t rows, cols, rank; } cases[] = {{24, 40, 30}, {40, 24, 20}, {33, 33, 17}};
  for (const auto& c : cases) {
    for (const Complement complement : {Complement::polar_left, Complement::polar}) {
      for (const DType dtype : factors()) {
        ProKlShampooOptions options = options_of(c.rank);
        options.complement = complement, options.factors = dtype;
        ProKlShampoo pro(options);
        Batch batch(pro, c.rows, c.cols);
        for (int t = 1; t <= 8; t++) {
          direction_of_step(batch, options, t, gradient(c.rows, c.cols, static_cast<uint64_t>(t)));
        }
        const auto r = static_cast<size_t>(c.rank);
        batch.set_state("s", reference::identity(r, 1e20));
        const Matrix u = batch.state("u");
        Matrix d = direction_of_step(batch, options, 9, gradient(c.rows, c.cols, 9));
        if (c.rows > c.cols) d = reference::transpose(d);
        const double n = static_cast<double>(u.rows), rank = static_cast<double>(c.rank);
        const double bound = 1.1 * (n + rank + 2) * kUnit * std::sqrt(rank);
        EXPECT_LE(reference::norm(d * u) / reference::norm(d), bound)
            << c.rows << " x " << c.cols << (complement == Complement::polar ? " polar " : " polar_left ")
            << name_of(dtype);
        // Its size says that it is there: all of its singular values are about one, times the scale.
        const double m = static_cast<double>(d.rows), scale = std::sqrt(0.05 / 1.95 * std::max(m, n - rank));
        EXPECT_NEAR(reference::norm(d) / (scale * std::sqrt(std::min(m, n - rank))), 1, 0.15);
      }
    }
  }
}

// Newton-Schulz in bf16 rounds both factors of three products a step to 2^-9 of themselves; what a step is off is carried
// on by the later ones, which move singular vectors no further: 5 x 6 x 2^-9 of D_2 at most, and D_1 has no bf16 in it.
TEST(Complement, InBf16AgreesWithTheReference) {
  if (factors().size() == 1) GTEST_SKIP() << "no products of bf16 factors on this machine";
  for (const auto& [rows, cols, rank] :
       {std::tuple<int64_t, int64_t, int64_t>{24, 40, 30}, {40, 24, 8}, {48, 192, 16}, {33, 100, 80}}) {
    ProKlShampooOptions options;
    options.rank = rank, options.factors = DType::bf16, options.set = &newton_schulz_set("polar_express");
    reference::ProKlShampoo expected;
    expected.rank = static_cast<size_t>(rank);
    ProKlShampoo pro(options);
    EXPECT_LE(error_after(pro, expected, rows, cols), 5 * 6 * 0x1p-9) << rows << " x " << cols;
  }
}

TEST(Complement, IsSkippedAndCountedWhereTheRankIsTheSide) {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{9, 14}, {14, 9}, {7, 7}}) {
    ProKlShampooOptions options = options_of(1000);
    ProKlShampoo pro(options);
    Batch batch(pro, rows, cols, 3);
    Recorder recorder;
    for (int t = 1; t <= 6; t++) {
      for (size_t k = 0; k < 3; k++) {
        batch.set_param(k, weights(rows, cols, k));
        batch.set_grad(k, gradient(rows, cols, static_cast<uint64_t>(t), k));
      }
      batch.step(t, 1, 1, &recorder);
      // Matrices times steps; the first step seeds.
      EXPECT_EQ(recorder.values.at("pro-kl-shampoo.skipped_complements"), 3 * (t - 1));
    }
  }
}

// Gradients whose rows stay in a space of four dimensions, which U spans: what is left of X outside is rounding.
TEST(Complement, IsSkippedAndCountedWhereThereIsOnlyRounding) {
  const Matrix right(4, 40, normals(160, 5));
  for (const Complement complement : {Complement::polar_left, Complement::polar, Complement::isotropic}) {
    for (const Root root : {Root::eigenbasis, Root::newton_schulz}) {
      ProKlShampooOptions options = options_of(4);
      options.complement = complement, options.root = root;
      ProKlShampoo pro(options);
      Batch batch(pro, 24, 40);
      Recorder recorder;
      for (int t = 1; t <= 12; t++) {
        const Matrix u = batch.state("u");
        const Matrix g = 0.01 * (Matrix(24, 4, normals(96, 100 + static_cast<uint64_t>(t))) * right);
        const Matrix d = direction_of_step(batch, options, t, g);
        if (t == 1) continue;
        const Matrix& by = root == Root::eigenbasis ? u : batch.state("u");  // the basis that the update had
        EXPECT_GT(reference::norm(d), 0);
        EXPECT_LE(reference::norm(d - d * by * reference::transpose(by)), 1e-5 * reference::norm(d)) << t;
      }
      EXPECT_EQ(pro.events().skipped_complements, 11);
      batch.step(13, 1, 1, &recorder);
      EXPECT_EQ(recorder.values.at("pro-kl-shampoo.skipped_complements"), 12);
    }
  }
}

// The border: ||X_perp|| = 1e-5 ||X||. In the first step after the seed X is G times a number.
TEST(Complement, IsThereFromAHundredThousandthOn) {
  const Matrix basis = reference::qr(Matrix(40, 8, normals(320, 6)));
  const Matrix inside = reference::transpose(reference::columns(basis, 4));
  Matrix outside(4, 40);
  for (size_t i = 0; i < 4; i++) {
    for (size_t j = 0; j < 40; j++) outside(i, j) = basis(j, 4 + i);
  }
  const Matrix left(24, 4, normals(96, 7));  // both parts have its norm
  for (const double share : {2e-5, 5e-6}) {
    ProKlShampooOptions options = options_of(4);
    ProKlShampoo pro(options);
    Batch batch(pro, 24, 40);
    direction_of_step(batch, options, 1, left * inside);
    const Matrix d = direction_of_step(batch, options, 2, left * inside + share * (left * outside));
    EXPECT_EQ(pro.events().skipped_complements, share < 1e-5);
    const double size = reference::norm(d * reference::transpose(outside));
    if (share > 1e-5) {
      EXPECT_GT(size, 0.5) << "four directions of size sqrt(0.05 / 1.95 x 36) make 1.9";
    } else {
      EXPECT_LT(size, 1e-3 * reference::norm(d));
    }
  }
}

}  // namespace
}  // namespace kiln::tests
