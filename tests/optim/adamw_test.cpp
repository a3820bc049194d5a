#include "optim/adamw.h"

#include <gtest/gtest.h>

#include "tests/optim/adamw_error.h"
#include "tests/optim/reference_adamw.h"
#include "tests/optim/support.h"

namespace kiln::tests {
namespace {

using optim::AdamW;
using optim::AdamWOptions;
using optim::MatrixBatch;
using optim::StepInfo;

// `count` matrices of rows x cols, `ld` apart, with their state; NaN between the rows, which nothing may
// touch.
struct Matrices {
  Matrices(int64_t rows, int64_t cols, int64_t ld, int64_t count) {
    batch.rows = rows, batch.cols = cols, batch.ld = ld;
    for (int64_t k = 0; k < count; k++) {
      const auto strided = static_cast<size_t>(rows * ld), dense = static_cast<size_t>(rows * cols);
      param.emplace_back(strided, NAN), grad.emplace_back(strided, NAN), m.emplace_back(dense),
          v.emplace_back(dense);
    }
    batch.state.resize(2);
    for (size_t k = 0; k < param.size(); k++) {
      batch.names.push_back("matrix" + std::to_string(k));
      batch.param.push_back(param[k].data()), batch.grad.push_back(grad[k].data());
      batch.state[0].push_back(m[k].data()), batch.state[1].push_back(v[k].data());
    }
  }
  void set(std::vector<std::vector<float>>& where, size_t k, const std::vector<double>& values) {
    for (int64_t i = 0; i < batch.rows; i++) {
      for (int64_t j = 0; j < batch.cols; j++) {
        where[k][static_cast<size_t>(i * batch.ld + j)] =
            static_cast<float>(values[static_cast<size_t>(i * batch.cols + j)]);
      }
    }
  }
  std::vector<double> get(size_t k) const {
    std::vector<double> values;
    for (int64_t i = 0; i < batch.rows; i++) {
      for (int64_t j = 0; j < batch.cols; j++)
        values.push_back(param[k][static_cast<size_t>(i * batch.ld + j)]);
    }
    return values;
  }
  bool gaps_untouched() const {
    for (const auto& p : param) {
      for (size_t i = 0; i < p.size(); i++) {
        if (static_cast<int64_t>(i) % batch.ld >= batch.cols && !std::isnan(p[i])) return false;
      }
    }
    return true;
  }

  std::vector<std::vector<float>> param, grad, m, v;
  MatrixBatch batch;
};

TEST(AdamW, StateIsTwoMatrices) {
  const auto state = AdamW({}).state(3, 5);
  ASSERT_EQ(state.size(), 2u);
  EXPECT_EQ(state[0].name, "m");
  EXPECT_EQ(state[1].name, "v");
  for (const auto& s : state) EXPECT_EQ(s.rows * s.cols, 15);
}

TEST(AdamW, WithoutMemoryEveryStepIsTheSign) {
  // lr = 1, b1 = b2 = eps = wd = 0: m = g, v = g^2, so W moves by g/|g|. Each of m, g^2, its root and the
  // quotient rounds once (4 u relative to 1), the difference once (u times its size).
  Machine machine;
  AdamW adamw({.lr = 1, .b1 = 0, .b2 = 0, .eps = 0, .wd = 0});
  Matrices x(5, 7, 7, 1);
  const auto w = normals(35, 1), g = normals(35, 2, 1e-3);
  x.set(x.param, 0, w);
  x.set(x.grad, 0, g);
  for (int t = 1; t <= 3; t++) {
    adamw.step(machine.context, x.batch, {.t = t, .lr_multiplier = 1, .gradient_scale = 1});
    const auto got = x.get(0);
    for (size_t i = 0; i < w.size(); i++) {
      const double expected = w[i] - t * std::copysign(1.0, g[i]);
      EXPECT_NEAR(got[i], expected, t * (4 + std::abs(w[i]) + t) * kUnit) << "element " << i << " step " << t;
    }
  }
}

TEST(AdamW, AConstantGradientMovesByTheLearningRate) {
  // eps = 0: both averages of a constant are that constant after the bias correction, so every step is lr
  // sign(g). In fp32 b, 1-b round by u each: relative errors of at most u/(1-b) in an average; its recurrence
  // rounds three times a step and forgets with factor b: 3u/(1-b). The root halves the error of v;
  // correction, root, quotient and product round some 8 times more.
  Machine machine;
  const AdamWOptions options{.lr = 6e-4, .b1 = 0.9, .b2 = 0.95, .eps = 0, .wd = 0};
  AdamW adamw(options);
  Matrices x(1, 19, 19, 1);
  const auto g = normals(19, 3, 0.02);
  x.set(x.param, 0, std::vector<double>(19, 0.0));
  x.set(x.grad, 0, g);
  const double relative = (4 / (1 - options.b1) + 0.5 * 4 / (1 - options.b2) + 8) * kUnit;
  std::vector<double> before = x.get(0);
  for (int t = 1; t <= 40; t++) {
    adamw.step(machine.context, x.batch, {.t = t, .lr_multiplier = 1, .gradient_scale = 1});
    const auto after = x.get(0);
    for (size_t i = 0; i < g.size(); i++) {
      const double rounding = kUnit * (std::abs(before[i]) + std::abs(after[i]));
      EXPECT_NEAR(after[i] - before[i], -options.lr * std::copysign(1.0, g[i]),
                  options.lr * relative + rounding)
          << "element " << i << " step " << t;
    }
    before = after;
  }
}

TEST(AdamW, TwoStepsByHand) {
  // lr .5, b1 .5, b2 .75, eps .5, wd .1, W = 1, g = 2 then 3:
  // 1: m = 1, v = 1; m^ = 1/.5 = 2, v^ = 1/.25 = 4; W = .95 - .5 * 2/(2 + .5) = .55
  // 2: m = .5 + 1.5 = 2, v = .75 + 9/4 = 3; m^ = 2/.75, v^ = 3/(7/16) = 48/7;
  //    W = .95 * .55 - .5 * (8/3)/(sqrt(48/7) + .5) = .5225 - .427540260... = .094959740
  // Some ten roundings of numbers below 1 a step: 20 u.
  Machine machine;
  AdamW adamw({.lr = 0.5, .b1 = 0.5, .b2 = 0.75, .eps = 0.5, .wd = 0.1});
  Matrices x(1, 1, 1, 1);
  x.set(x.param, 0, {1});
  x.set(x.grad, 0, {2});
  adamw.step(machine.context, x.batch, {.t = 1, .lr_multiplier = 1, .gradient_scale = 1});
  EXPECT_NEAR(x.get(0)[0], 0.55, 10 * kUnit);
  EXPECT_NEAR(x.m[0][0], 1.0, 4 * kUnit);
  EXPECT_NEAR(x.v[0][0], 1.0, 4 * kUnit);
  x.set(x.grad, 0, {3});
  adamw.step(machine.context, x.batch, {.t = 2, .lr_multiplier = 1, .gradient_scale = 1});
  EXPECT_NEAR(x.get(0)[0], 0.09495973968, 20 * kUnit);

  // The same through the schedule and through clipping: twice the rate halved, half the gradient doubled.
  AdamW doubled({.lr = 1.0, .b1 = 0.5, .b2 = 0.75, .eps = 0.5, .wd = 0.1});
  Matrices y(1, 1, 1, 1);
  y.set(y.param, 0, {1});
  y.set(y.grad, 0, {4});
  doubled.step(machine.context, y.batch, {.t = 1, .lr_multiplier = 0.5, .gradient_scale = 0.5});
  y.set(y.grad, 0, {6});
  doubled.step(machine.context, y.batch, {.t = 2, .lr_multiplier = 0.5, .gradient_scale = 0.5});
  EXPECT_NEAR(y.get(0)[0], 0.09495973968, 20 * kUnit);
}

// Fifty steps of changing gradients (with spikes of a hundred times their usual size), multipliers and
// clipping, on several strided matrices, against fp64: element by element within the running bound, and
// altogether within the 1e-4 of the movement that every optimizer here is held to.
TEST(AdamW, FiftyStepsAgainstTheReference) {
  Machine machine;
  struct Case {
    int64_t rows, cols, ld;
    AdamWOptions options;
  };
  const Case cases[] = {
      {1, 1, 1, {6e-4, 0.9, 0.95, 1e-8, 0.1}},      {1, 37, 37, {1e-3, 0.9, 0.99, 1e-8, 0.0}},
      {5, 3, 3, {1e-2, 0.0, 0.9, 1e-6, 0.1}},       {7, 11, 16, {3e-3, 0.95, 0.95, 1e-3, 0.5}},
      {17, 130, 130, {6e-4, 0.9, 0.95, 1e-8, 0.1}}, {131, 257, 257, {6e-4, 0.8, 0.9, 0.1, 1.0}}};
  for (const Case& c : cases) {
    SCOPED_TRACE(fmt::format("{} x {} ld {} b1 {} b2 {}", c.rows, c.cols, c.ld, c.options.b1, c.options.b2));
    constexpr size_t kCount = 2;
    AdamW adamw(c.options);
    Matrices x(c.rows, c.cols, c.ld, kCount);
    std::vector<ReferenceAdamW> reference(
        kCount, {c.options.lr, c.options.b1, c.options.b2, c.options.eps, c.options.wd, {}, {}});
    std::vector<AdamWErrorBound> bound(kCount);
    std::vector<std::vector<double>> w(kCount), start;
    for (size_t k = 0; k < kCount; k++)
      w[k] = normals(c.rows * c.cols, 100 + k, 0.02), x.set(x.param, k, w[k]);
    start = w;
    for (int t = 1; t <= 50; t++) {
      const StepInfo info{.t = t, .lr_multiplier = t / 50.0, .gradient_scale = t % 3 == 0 ? 0.25 : 1.0};
      for (size_t k = 0; k < kCount; k++) {
        const auto g = normals(c.rows * c.cols, 1000 * static_cast<uint64_t>(t) + k, t % 7 == 0 ? 1.0 : 0.01);
        x.set(x.grad, k, g);
        reference[k].step(w[k], g, info.lr_multiplier, info.gradient_scale);
        bound[k].step(reference[k], w[k], g, c.options.lr * info.lr_multiplier, info.gradient_scale);
      }
      adamw.step(machine.context, x.batch, info);
    }
    for (size_t k = 0; k < kCount; k++) {
      const auto got = x.get(k);
      double error = 0, moved = 0;
      for (size_t i = 0; i < got.size(); i++) {
        EXPECT_NEAR(got[i], w[k][i], bound[k].w[i]) << "matrix " << k << " element " << i;
        error += (got[i] - w[k][i]) * (got[i] - w[k][i]);
        moved += (w[k][i] - start[k][i]) * (w[k][i] - start[k][i]);
      }
      EXPECT_LE(std::sqrt(error / moved), 1e-4) << "matrix " << k;
    }
    EXPECT_TRUE(x.gaps_untouched());
  }
}

TEST(AdamW, SameBitsForAnyNumberOfThreads) {
  std::vector<std::vector<double>> results;
  for (const int threads : {1, 2, 3}) {
    Machine machine(threads);
    AdamW adamw({.lr = 1e-3, .b1 = 0.9, .b2 = 0.95, .eps = 1e-8, .wd = 0.1});
    Matrices x(301, 257, 257, 1);
    x.set(x.param, 0, normals(301 * 257, 1, 0.02));
    for (int t = 1; t <= 3; t++) {
      x.set(x.grad, 0, normals(301 * 257, 10 + static_cast<uint64_t>(t)));
      adamw.step(machine.context, x.batch, {.t = t, .lr_multiplier = 1, .gradient_scale = 1});
    }
    results.push_back(x.get(0));
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

}  // namespace
}  // namespace kiln::tests
