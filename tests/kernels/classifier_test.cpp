#include "tests/kernels/reference_classifier.h"
#include "tests/kernels/support.h"

namespace kiln::tests {
namespace {

struct Case {
  const char* name;
  int64_t rows, V, Vp, ld;
  double deviation, mean;  // of the logits
};

// Ragged widths, padding, rows further apart than they are wide, several blocks of columns, logits far from
// zero and far from each other.
constexpr Case kCases[] = {{"one", 3, 1, 1, 1, 1, 0},
                           {"two", 5, 2, 3, 4, 1, 0},
                           {"seven", 64, 7, 16, 16, 3, 0},
                           {"sixteen", 1, 16, 16, 16, 3, 0},
                           {"seventeen", 129, 17, 17, 20, 3, 0},
                           {"prime", 5, 97, 128, 131, 3, 0},
                           {"bytes", 129, 257, 384, 384, 3, 0},
                           {"blocks", 5, 5003, 5008, 5010, 5, 0},
                           {"two blocks", 3, 2048, 2048, 2048, 1, 0},
                           {"high", 5, 1031, 1040, 1040, 1, 1e4},
                           {"low", 5, 1031, 1040, 1040, 1, -1e4},
                           {"wide apart", 64, 1031, 1040, 1040, 1e4, 0}};
constexpr float kScale = 0.37f;
constexpr float kPadding = 1e30f;  // would dominate every sum if it took part

struct Result {
  Guarded<float> logits, losses;
};

Guarded<float> logits_of(const Case& c) {
  Guarded<float> logits = normal(c.rows * c.ld, c.name, c.deviation, c.mean);
  for (int64_t i = 0; i < c.rows; i++) {
    for (int64_t j = c.V; j < c.ld; j++) logits[i * c.ld + j] = kPadding;
  }
  return logits;
}

// Every third row is to be ignored, if `ignore`.
Guarded<int32_t> targets_of(const Case& c, bool ignore) {
  Guarded<int32_t> targets = integers(c.rows, c.name, 0, static_cast<int32_t>(c.V));
  for (int64_t i = 1; ignore && i < c.rows; i += 3) targets[i] = -1;
  return targets;
}

Result run(Isa isa, int threads, const Case& c, bool ignore, bool write_gradient) {
  Runner runner(isa, threads);
  Result r{logits_of(c), Guarded<float>(c.rows)};
  const auto targets = targets_of(c, ignore);
  runner.run(kernels::softmax_cross_entropy,
             kernels::SoftmaxCrossEntropy{r.logits.data(), r.losses.data(), targets.data(), c.rows, c.V, c.Vp,
                                          c.ld, kScale, write_gradient, DType::f32});
  return r;
}

std::vector<double> row_of(const Guarded<float>& logits, const Case& c, int64_t row) {
  return {logits.data() + row * c.ld, logits.data() + row * c.ld + c.V};
}

// Relative error of sum_j exp(x_j - max): each difference is rounded, which the exponential turns into u |x_j
// - max| of its term; the exponential errs by 2 ulp, 4 u at most; at most 1024 terms are added up in fp32
// before the sum goes on in fp64; terms below 2^-125 count as zero.
double sum_relative_error(const std::vector<double>& row, const std::vector<double>& p) {
  const double max = *std::max_element(row.begin(), row.end());
  double spread = 0;
  for (size_t j = 0; j < row.size(); j++) spread += p[j] * (max - row[j]);
  const auto V = static_cast<int64_t>(row.size());
  return (4 + spread) * kUnit + sum_error(std::min<int64_t>(V, 1024)) + static_cast<double>(V) * 0x1p-125;
}

TEST(Classifier, MatchesReference) {
  for (Isa isa : isas()) {
    for (const Case& c : kCases) {
      for (bool ignore : {false, true}) {
        SCOPED_TRACE(fmt::format("{} {} ignore={}", name_of(isa), c.name, ignore));
        const auto logits = logits_of(c);
        const auto targets = targets_of(c, ignore);
        const Result r = run(isa, 2, c, ignore, true);
        for (int64_t i = 0; i < c.rows; i++) {
          const float* gradient = r.logits.data() + i * c.ld;
          for (int64_t j = c.V; j < c.Vp; j++) ASSERT_EQ(gradient[j], 0.0f) << "padding, row " << i;
          for (int64_t j = c.Vp; j < c.ld; j++) ASSERT_EQ(gradient[j], kPadding) << "between rows, row " << i;
          if (targets[i] < 0) {
            ASSERT_EQ(r.losses[i], 0.0f);
            for (int64_t j = 0; j < c.V; j++) ASSERT_EQ(gradient[j], 0.0f) << "ignored row " << i;
            continue;
          }
          const auto row = row_of(logits, c, i);
          const auto p = reference::softmax(row);
          const double error = sum_relative_error(row, p), max = *std::max_element(row.begin(), row.end());
          // log(sum (1 + error)) and one rounding of the result.
          const double loss = reference::cross_entropy(row, targets[i]);
          ASSERT_NEAR(static_cast<double>(r.losses[i]), loss, error + kUnit * loss) << "row " << i;
          // scale p: the exponential, the sum, a rounded factor, a rounded product; the target's rounded
          // difference.
          auto expected = reference::cross_entropy_gradient(row, targets[i]);
          for (double& d : expected) d *= static_cast<double>(kScale);
          expect_close("gradient", gradient, expected, [&](int64_t j) {
            const double pj = p[static_cast<size_t>(j)], distance = max - row[static_cast<size_t>(j)];
            const double relative = (4 + distance + 2) * kUnit + error;
            return static_cast<double>(kScale) * (pj * relative + (j == targets[i] ? kUnit : 0) + 0x1p-125);
          });
        }
      }
    }
  }
}

TEST(Classifier, WithoutGradientLeavesLogitsAlone) {
  for (Isa isa : isas()) {
    for (const Case& c : kCases) {
      const Result with = run(isa, 2, c, true, true), without = run(isa, 2, c, true, false);
      EXPECT_TRUE(without.logits.same_bits(logits_of(c))) << name_of(isa) << " " << c.name;
      EXPECT_TRUE(without.losses.same_bits(with.losses)) << name_of(isa) << " " << c.name;
    }
  }
}

TEST(Classifier, DoesNotDependOnThreads) {
  for (Isa isa : isas()) {
    for (const Case& c : kCases) {
      const Result one = run(isa, 1, c, true, true);
      for (int threads : {2, 3}) {
        const Result more = run(isa, threads, c, true, true);
        EXPECT_TRUE(more.logits.same_bits(one.logits) && more.losses.same_bits(one.losses))
            << name_of(isa) << " " << c.name << ", " << threads << " threads";
      }
    }
  }
}

// A broken row must show: NaN among the logits, anywhere, makes the loss NaN.
TEST(Classifier, KeepsNaN) {
  for (Isa isa : isas()) {
    for (int64_t at : {0, 1, 15, 16, 96}) {
      Runner runner(isa, 1);
      auto logits = normal(97, "logits");
      logits[at] = std::nanf("");
      Guarded<float> loss(1);
      const Guarded<int32_t> target(1, 5);
      runner.run(kernels::softmax_cross_entropy,
                 kernels::SoftmaxCrossEntropy{logits.data(), loss.data(), target.data(), 1, 97, 97, 97,
                                              kScale, false, DType::f32});
      EXPECT_TRUE(std::isnan(loss[0])) << name_of(isa) << " NaN at " << at;
    }
  }
}

// The exponential of every instruction set, seen through a row whose first logit, 0, is the largest: its
// gradient is the factor f = scale / sum, that of any other logit x <= 0 is f exp(x) with one rounding.
// kernels/cpu/simd.h claims 2 ulp (4 u) and zero for results of 2^-125.5 and less.
TEST(Classifier, ExponentialKeepsItsAccuracy) {
  const int64_t n = 1 << 19;
  for (Isa isa : isas()) {
    Runner runner(isa, 2);
    Guarded<float> x(n);
    x[0] = 0;
    for (int64_t i = 1; i < n; i++) x[i] = -90.0f * static_cast<float>(i) / static_cast<float>(n);
    x[n - 2] = -3e38f;
    x[n - 3] = -std::numeric_limits<float>::infinity();
    x[n - 4] = -1e-30f;
    x[n - 5] = -std::numeric_limits<float>::denorm_min();
    Guarded<float> p = x, loss(1);
    const Guarded<int32_t> target(1,
                                  static_cast<int32_t>(n - 1));  // its logit is -90: that gradient is -scale
    runner.run(kernels::softmax_cross_entropy,
               kernels::SoftmaxCrossEntropy{p.data(), loss.data(), target.data(), 1, n, n, n, 0x1p20f, true,
                                            DType::f32});
    const double f = p[0];
    for (int64_t i = 0; i < n - 1; i++) {
      const double exact = std::exp(static_cast<double>(x[i]));
      if (x[i] < -86.9) {
        ASSERT_LE(p[i], f * 0x1p-125) << name_of(isa) << " " << x[i];
      } else {
        ASSERT_NEAR(p[i] / f, exact, 5 * kUnit * exact) << name_of(isa) << " " << x[i];
      }
    }
    EXPECT_EQ(p[n - 2], 0.0f);
    EXPECT_EQ(p[n - 3], 0.0f);
  }
}

// The reference itself: second and third derivatives are of order one, so 1e-9 is far above truncation and
// rounding.
TEST(Classifier, ReferenceGradientIsNumericGradient) {
  for (int64_t V : {1, 2, 7}) {
    auto logits = to_double(normal(V, "logits", 2));
    const int64_t target = V / 2;
    const auto gradient = reference::cross_entropy_gradient(logits, target);
    for (size_t j = 0; j < logits.size(); j++) {
      const auto loss = [&] { return reference::cross_entropy(logits, target); };
      EXPECT_NEAR(gradient[j], central_difference(loss, logits[j]), 1e-9) << "V=" << V << " j=" << j;
    }
  }
}

}  // namespace
}  // namespace kiln::tests
