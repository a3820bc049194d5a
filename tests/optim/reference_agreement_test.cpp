// Each matrix optimizer in fp32 against its fp64 reference: relative error of the movement below 1e-4 after fifty steps,
// for every option. Where that takes a reference minutes, nightly runs have every option, shape and step, the others fewer
// of them. The options' defaults and the reference's were written down separately.
#include <fmt/format.h>

#include "optim/kl_shampoo.h"
#include "optim/muon.h"
#include "optim/pro_kl_shampoo.h"
#include "tests/optim/batch.h"
#include "tests/optim/reference_shampoo.h"

namespace kiln::tests {
namespace {

using namespace optim;
constexpr double kTolerance = 1e-4;

void expect_muon(MuonOptions options, ShapeOf shape) {
  reference::Muon expected;
  expected.lr = options.lr, expected.mu = options.mu, expected.wd = options.wd;
  expected.nesterov = options.nesterov;
  expected.scale = options.scale == MuonScale::match_rms ? "match_rms" : "spectral";
  expected.set = options.set->name;
  Muon muon(options);
  EXPECT_LE(error_after(muon, expected, shape.rows, shape.cols), kTolerance)
      << shape.rows << " x " << shape.cols << " " << expected.scale << " " << expected.set << " "
      << options.nesterov << " lr " << options.lr << " mu " << options.mu << " wd " << options.wd;
}

// Of a reference that decomposes large factors at every step.
int steps_of_slow_reference(ShapeOf shape) {
  const std::string suite = testing::UnitTest::GetInstance()->current_test_info()->test_suite_name();
  return std::max(shape.rows, shape.cols) > 100 && !suite.starts_with("Nightly") ? 12 : 50;
}

class OfShape : public testing::TestWithParam<ShapeOf> {};

TEST_P(OfShape, Muon) {
  for (const char* set : {"jordan", "polar_express"}) {
    for (const MuonScale scale : {MuonScale::match_rms, MuonScale::spectral}) {
      expect_muon({.nesterov = true, .scale = scale, .set = &newton_schulz_set(set)}, GetParam());
    }
  }
  expect_muon({.nesterov = false, .set = &newton_schulz_set("jordan")}, GetParam());
  expect_muon({.lr = 0.02, .mu = 0.8, .wd = 0, .set = &newton_schulz_set("jordan")}, GetParam());
}
TEST(Agreement, MuonLarge) {
  expect_muon({.set = &newton_schulz_set("jordan")}, {128, 512});
}

void expect_kl(KlShampooOptions options, ShapeOf shape, int steps = 50) {
  reference::KlShampoo expected;
  expected.lr = options.lr, expected.b1 = options.b1, expected.b2 = options.b2, expected.eps = options.eps;
  expected.wd = options.wd, expected.refresh = static_cast<int>(options.refresh);
  expected.root = options.root == Root::eigenbasis ? "eigenbasis" : "newton_schulz";
  expected.init = options.init == Init::gradient ? "gradient" : "constant";
  KlShampoo kl(options);
  EXPECT_LE(error_after(kl, expected, shape.rows, shape.cols, steps), kTolerance)
      << shape.rows << " x " << shape.cols << " " << expected.root << " " << expected.init << " eps "
      << options.eps << " lr " << options.lr << " b1 " << options.b1 << " b2 " << options.b2 << " wd "
      << options.wd << " refresh " << options.refresh;
  EXPECT_EQ(kl.events().failed + kl.events().retried + kl.events().slow_roots, 0);
}

TEST_P(OfShape, KlShampoo) {
  expect_kl({}, GetParam());
  expect_kl({.eps = 1e-2}, GetParam());
  expect_kl({.init = Init::constant}, GetParam());
}
// A refresh must not come before the larger side's factor has full rank, after more steps than the larger side is times the
// smaller one: until then rounding decides which basis of its null space QR completes, in fp32 and in fp64.
TEST_P(OfShape, KlShampooNumbers) {
  const int64_t refresh = GetParam().rows == GetParam().cols ? 3 : 7;
  expect_kl({.lr = 0.01}, GetParam(), 12);
  expect_kl({.b1 = 0.9}, GetParam(), 12);
  expect_kl({.b2 = 0.98}, GetParam(), 12);
  expect_kl({.wd = 0}, GetParam(), 12);
  expect_kl({.refresh = refresh}, GetParam(), 16);
  expect_kl({.lr = 0.01, .b1 = 0.9, .b2 = 0.98, .wd = 0, .refresh = refresh}, GetParam());
}
TEST_P(OfShape, KlShampooByNewtonSchulzRoots) {
  expect_kl({.root = Root::newton_schulz}, GetParam(), steps_of_slow_reference(GetParam()));
}
TEST(Agreement, KlShampooLarge) {
  expect_kl({}, {128, 512}, 22);  // two refreshes
}

void expect_pro(ProKlShampooOptions options, ShapeOf shape, int steps = 50) {
  options.set = &newton_schulz_set(options.complement == Complement::polar ? "jordan" : "polar_express");
  reference::ProKlShampoo expected;
  expected.lr = options.lr, expected.b1 = options.b1, expected.b2 = options.b2, expected.wd = options.wd;
  expected.refresh = static_cast<int>(options.refresh);
  expected.rank = static_cast<size_t>(options.rank);
  expected.tracker_every = static_cast<int>(options.tracker_every);
  expected.root = options.root == Root::eigenbasis ? "eigenbasis" : "newton_schulz";
  expected.orientation = options.orientation == Orientation::larger ? "larger" : "input";
  expected.complement = options.complement == Complement::polar_left ? "polar_left"
                        : options.complement == Complement::polar    ? "polar"
                                                                     : "isotropic";
  expected.complement_scale = options.scale == ComplementScale::matched ? "matched"
                              : options.scale == ComplementScale::graft ? "graft"
                                                                        : "fixed";
  expected.complement_factor = options.complement_factor;
  expected.tracker = options.tracker == Tracker::orthogonal ? "orthogonal" : "accumulate";
  expected.set = options.set->name;
  ProKlShampoo pro(options);
  EXPECT_LE(error_after(pro, expected, shape.rows, shape.cols, steps), kTolerance)
      << shape.rows << " x " << shape.cols << " rank " << options.rank << " " << expected.root << " "
      << expected.orientation << " " << expected.complement << " " << expected.complement_scale << " "
      << expected.tracker << " every " << options.tracker_every << " lr " << options.lr << " b1 "
      << options.b1 << " b2 " << options.b2 << " wd " << options.wd << " refresh " << options.refresh;
  EXPECT_EQ(pro.events().failed + pro.events().retried + pro.events().slow_roots, 0);
}

TEST_P(OfShape, ProDefaults) {
  for (int64_t rank : {16, 1}) expect_pro({.rank = rank}, GetParam());
}
TEST_P(OfShape, ProNumbers) {
  expect_pro({.lr = 0.01, .rank = 16}, GetParam(), 12);
  expect_pro({.b1 = 0.9, .rank = 16}, GetParam(), 12);
  expect_pro({.b2 = 0.98, .rank = 16}, GetParam(), 12);
  expect_pro({.wd = 0, .rank = 16}, GetParam(), 12);
  expect_pro({.refresh = 3, .rank = 16}, GetParam(), 16);
  expect_pro({.lr = 0.01, .b1 = 0.9, .b2 = 0.98, .wd = 0, .refresh = 3, .rank = 16}, GetParam());
}
TEST_P(OfShape, ProOrientation) {
  expect_pro({.rank = 16, .orientation = Orientation::input}, GetParam());
}
TEST_P(OfShape, ProComplements) {
  expect_pro({.rank = 16, .complement = Complement::polar}, GetParam());
  expect_pro({.rank = 16, .complement = Complement::isotropic}, GetParam());
}
TEST_P(OfShape, ProComplementScales) {
  expect_pro({.rank = 16, .scale = ComplementScale::graft}, GetParam());
  expect_pro({.rank = 16, .complement = Complement::polar, .scale = ComplementScale::graft}, GetParam());
  expect_pro({.rank = 16, .scale = ComplementScale::fixed, .complement_factor = 0.3}, GetParam());
}
TEST_P(OfShape, ProTrackers) {
  expect_pro({.rank = 16, .tracker_every = 7}, GetParam());
  expect_pro({.rank = 16, .tracker = Tracker::accumulate, .tracker_every = 10}, GetParam());
}
TEST_P(OfShape, ProNewtonSchulzRoot) {
  expect_pro({.root = Root::newton_schulz, .rank = 16}, GetParam());
  expect_pro({.root = Root::newton_schulz, .rank = 16, .tracker = Tracker::accumulate, .tracker_every = 5},
             GetParam());
}
TEST_P(OfShape, ProRanksAtTheEnds) {
  expect_pro({.rank = 0}, GetParam());
  expect_pro({.rank = 1000}, GetParam(), steps_of_slow_reference(GetParam()));
}
std::string name_of(const testing::TestParamInfo<ShapeOf>& info) {
  return fmt::format("{}x{}", info.param.rows, info.param.cols);
}
INSTANTIATE_TEST_SUITE_P(Agreement, OfShape, testing::ValuesIn(kShapes), name_of);
INSTANTIATE_TEST_SUITE_P(Nightly, OfShape,
                         testing::Values(ShapeOf{48, 192}, ShapeOf{192, 48}, ShapeOf{128, 512}), name_of);
TEST(Agreement, ProLarge) {
  expect_pro({.rank = 32}, {128, 512});
}

}  // namespace
}  // namespace kiln::tests
