#include <algorithm>

#include "tests/kernels/reference_update.h"
#include "tests/kernels/support.h"

namespace kiln::tests {
namespace {

constexpr int64_t kSizes[] = {0, 1, 2, 3, 7, 15, 16, 17, 31, 64, 65, 97, 768, 16384, 16385, 100003};

double sum_of_squares(Isa isa, int threads, const Guarded<float>& x) {
  Runner runner(isa, threads);
  Guarded<double> out(1);
  runner.run(kernels::sum_of_squares, kernels::SumOfSquares{out.data(), x.data(), x.size(), DType::f32});
  return out[0];
}

// Squares of floats are exact in fp64; n additions of positive numbers err by n 2^-53 relatively. The
// reference adds in long double.
TEST(SumOfSquares, MatchesReference) {
  for (Isa isa : isas()) {
    for (int64_t n : kSizes) {
      for (double deviation : {1.0, 1e-20, 1e18}) {
        const auto x = normal(n, "x", deviation);
        long double expected = 0;
        for (float v : x) expected += static_cast<long double>(v) * v;
        const double bound = static_cast<double>(n) * 0x1p-53 * static_cast<double>(expected);
        ASSERT_NEAR(sum_of_squares(isa, 2, x), static_cast<double>(expected), bound)
            << name_of(isa) << " n=" << n;
      }
    }
  }
}

TEST(SumOfSquares, DoesNotDependOnThreads) {
  const auto x = normal(100003, "x");
  for (Isa isa : isas()) {
    const double one = sum_of_squares(isa, 1, x);
    for (int threads : {1, 2, 3}) EXPECT_EQ(sum_of_squares(isa, threads, x), one) << name_of(isa);
  }
}

TEST(SumOfSquares, ShowsInfinityAndNaN) {
  for (Isa isa : isas()) {
    for (int64_t at : {int64_t{0}, int64_t{17}, int64_t{20000}, int64_t{20010}}) {
      auto x = normal(20011, "x");
      x[at] = -std::numeric_limits<float>::infinity();
      EXPECT_TRUE(std::isinf(sum_of_squares(isa, 2, x))) << name_of(isa) << " at " << at;
      x[at] = std::nanf("");
      EXPECT_TRUE(std::isnan(sum_of_squares(isa, 2, x))) << name_of(isa) << " at " << at;
    }
  }
}

struct State {
  Guarded<float> param, m, v, gradient;
};
State state(int64_t n) {
  State s{normal(n, "param"), normal(n, "m", 0.1), normal(n, "v", 0.1), normal(n, "gradient", 3)};
  for (int64_t i = 0; i < n; i++) {
    s.v[i] *= s.v[i];
    if (i % 5 == 4) s.gradient[i] = s.m[i] = s.v[i] = 0;  // a parameter that was never used
  }
  return s;
}

struct Hyper {
  double lr, b1, b2, eps, weight_decay, gradient_scale;
};

void step(Isa isa, int threads, State& s, int64_t t, const Hyper& h) {
  Runner runner(isa, threads);
  runner.run(kernels::adamw_step,
             kernels::AdamWStep{s.param.data(), s.m.data(), s.v.data(), s.gradient.data(), s.param.size(), t,
                                h.lr, h.b1, h.b2, h.eps, h.weight_decay, h.gradient_scale, DType::f32});
}

// Roundings, each of one unit u relatively. Gradient: scale, product: 2. m: both coefficients, both products,
// sum, and the gradient's 2: at most 5 of the sum of magnitudes. v: all terms positive: coefficients, three
// products, sum, twice the gradient's 2: 9. Denominator: half of v's 9, root, factor, product, eps, sum: 10
// altogether. Update: step size, product, quotient, sum with the decay: 4 more. Decay: coefficient, product
// and that sum: 3. Parameter: one of the result.
TEST(AdamW, MatchesReference) {
  const Hyper kHypers[] = {
      {1e-3, 0.9, 0.999, 1e-8, 0.1, 1}, {0.1, 0.9, 0.95, 1e-8, 0, 0.25}, {0, 0.5, 0, 1e-3, 1, 1}};
  for (int64_t n : kSizes) {
    const State before = state(n);
    for (const Hyper& h : kHypers) {
      for (int64_t t : {1, 2, 100000}) {
        std::vector<double> param, m, v, param_bound, m_bound, v_bound;
        const double correction1 = 1 - std::pow(h.b1, static_cast<double>(t));
        const double correction2 = 1 - std::pow(h.b2, static_cast<double>(t));
        for (int64_t i = 0; i < n; i++) {
          const double g = h.gradient_scale * static_cast<double>(before.gradient[i]);
          const auto r = reference::adamw_step({before.param[i], before.m[i], before.v[i]}, g, t, h.lr, h.b1,
                                               h.b2, h.eps, h.weight_decay);
          param.push_back(r.param);
          m.push_back(r.m);
          v.push_back(r.v);
          m_bound.push_back(5 * kUnit * (std::fabs(h.b1 * before.m[i]) + std::fabs((1 - h.b1) * g)));
          v_bound.push_back(9 * kUnit * r.v);
          const double denominator = std::sqrt(r.v / correction2) + h.eps;
          param_bound.push_back(
              h.lr / correction1 / denominator * (m_bound.back() + 14 * kUnit * std::fabs(r.m)) +
              kUnit * (3 * h.lr * h.weight_decay * std::fabs(before.param[i]) + std::fabs(r.param)));
        }
        for (Isa isa : isas()) {
          SCOPED_TRACE(fmt::format("{} n={} t={} lr={}", name_of(isa), n, t, h.lr));
          State after = before;
          step(isa, 2, after, t, h);
          expect_close("param", after.param, param,
                       [&](int64_t i) { return param_bound[static_cast<size_t>(i)]; });
          expect_close("m", after.m, m, [&](int64_t i) { return m_bound[static_cast<size_t>(i)]; });
          expect_close("v", after.v, v, [&](int64_t i) { return v_bound[static_cast<size_t>(i)]; });
          EXPECT_TRUE(after.gradient.same_bits(before.gradient));
        }
      }
    }
  }
}

// The closed form of the first step from zero state: param - lr sign(g) up to eps / |g|, whatever the size of
// g.
TEST(AdamW, FirstStepIsTheSignOfTheGradient) {
  for (Isa isa : isas()) {
    State s{Guarded<float>(97, 1.0f), Guarded<float>(97, 0.0f), Guarded<float>(97, 0.0f),
            normal(97, "gradient")};
    for (int64_t i = 0; i < 97; i++) {
      s.gradient[i] = std::copysign(std::pow(10.0f, static_cast<float>(i % 21 - 5)), s.gradient[i]);
    }
    step(isa, 2, s, 1, {0.01, 0.9, 0.999, 1e-12, 0, 1});
    for (int64_t i = 0; i < 97; i++) {
      // 13 roundings of the update, two of a number near one, and eps / |g| <= 1e-7.
      EXPECT_NEAR(s.param[i], 1 - std::copysign(0.01, s.gradient[i]), 0.01 * (18 * kUnit + 1e-7) + 2 * kUnit)
          << name_of(isa) << " gradient " << s.gradient[i];
    }
  }
}

// The derivative of the loss 0.5 x^2 is x: from anywhere AdamW walks to 0 and stays within a few step sizes.
TEST(AdamW, MinimisesAParabola) {
  for (Isa isa : isas()) {
    State s{normal(65, "start"), Guarded<float>(65, 0.0f), Guarded<float>(65, 0.0f), Guarded<float>(65)};
    for (int64_t t = 1; t <= 2000; t++) {
      std::memcpy(s.gradient.data(), s.param.data(), 65 * sizeof(float));
      step(isa, 1, s, t, {0.01, 0.9, 0.95, 1e-8, 0, 1});
    }
    for (float x : s.param) EXPECT_LT(std::fabs(x), 0.05) << name_of(isa);
  }
}

TEST(AdamW, DoesNotDependOnThreads) {
  const State before = state(100003);
  for (Isa isa : isas()) {
    State one = before;
    step(isa, 1, one, 3, {1e-3, 0.9, 0.999, 1e-8, 0.1, 1});
    for (int threads : {2, 3}) {
      State more = before;
      step(isa, threads, more, 3, {1e-3, 0.9, 0.999, 1e-8, 0.1, 1});
      EXPECT_TRUE(more.param.same_bits(one.param) && more.m.same_bits(one.m) && more.v.same_bits(one.v))
          << name_of(isa);
    }
  }
}

TEST(SetZero, WritesEveryByteAndNoOther) {
  for (Isa isa : isas()) {
    Runner runner(isa, 2);
    for (int64_t bytes : {0, 1, 3, 64, 4097, 262143, 262145, 1000003}) {
      Guarded<unsigned char> x(bytes);
      runner.run(kernels::set_zero, kernels::SetZero{x.data(), bytes, DType::f32});
      EXPECT_TRUE(std::all_of(x.begin(), x.end(), [](unsigned char b) { return b == 0; })) << bytes;
    }
  }
}

}  // namespace
}  // namespace kiln::tests
