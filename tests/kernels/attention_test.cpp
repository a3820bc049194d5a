#include <algorithm>
#include <initializer_list>

#include "tests/kernels/reference_attention.h"
#include "tests/kernels/support.h"

namespace kiln::tests {
namespace {

using reference::at;
using reference::AttentionGradients;
using reference::AttentionShape;
using reference::AttentionValues;
using reference::Doubles;
using reference::zeros;

std::string name_of(const AttentionShape& s) {
  return fmt::format("B={} T={} heads={} kv_heads={} head_size={}", s.B, s.T, s.heads, s.kv_heads,
                     s.head_size);
}

// Where q, k and v (or their gradients) lie: rows of one buffer, as a fused projection leaves them, or three
// buffers whose rows are an odd number of elements too long. Elements between heads hold NaN bits: a kernel
// that reads them spoils its result, one that writes them fails gaps_intact().
class Tensors {
 public:
  Tensors(const AttentionShape& s, bool fused) : s_(s) {
    const int64_t tokens = s.B * s.T, q_width = s.heads * s.head_size, kv_width = s.kv_heads * s.head_size;
    if (fused) {
      const int64_t stride = q_width + 2 * kv_width;
      buffers_.emplace_back(tokens * stride);
      float* start = buffers_[0].data();
      q_ = {start, stride, q_width};
      k_ = {start + q_width, stride, kv_width};
      v_ = {start + q_width + kv_width, stride, kv_width};
      return;
    }
    buffers_.reserve(3);
    int64_t gap = 3;
    for (Slice* slice : {&q_, &k_, &v_}) {
      const int64_t width = slice == &q_ ? q_width : kv_width;
      buffers_.emplace_back((tokens - 1) * (width + gap) + width);
      *slice = {buffers_.back().data(), width + gap, width};
      gap += 2;
    }
  }

  float* q() { return q_.start; }
  float* k() { return k_.start; }
  float* v() { return v_.start; }
  int64_t q_stride() const { return q_.stride; }
  int64_t k_stride() const { return k_.stride; }
  int64_t v_stride() const { return v_.stride; }

  void fill(const Guarded<float>& q, const Guarded<float>& k, const Guarded<float>& v) {
    write(q_, q);
    write(k_, k);
    write(v_, v);
  }
  Guarded<float> dense_q() const { return read(q_); }
  Guarded<float> dense_k() const { return read(k_); }
  Guarded<float> dense_v() const { return read(v_); }

  bool gaps_intact() const {
    for (const Slice* slice : {&q_, &k_, &v_}) {
      if (buffers_.size() == 1) return true;  // fused: every element belongs to one of the three
      for (int64_t row = 0; row + 1 < s_.B * s_.T; row++) {
        for (int64_t i = slice->width; i < slice->stride; i++) {
          uint32_t bits;
          std::memcpy(&bits, slice->start + row * slice->stride + i, sizeof bits);
          if (bits != 0xFFFFFFFFu) return false;
        }
      }
    }
    return true;
  }

 private:
  struct Slice {
    float* start = nullptr;
    int64_t stride = 0, width = 0;
  };
  void write(const Slice& slice, const Guarded<float>& dense) {
    for (int64_t i = 0; i < dense.size(); i++)
      slice.start[i / slice.width * slice.stride + i % slice.width] = dense[i];
  }
  Guarded<float> read(const Slice& slice) const {
    Guarded<float> dense(s_.B * s_.T * slice.width);
    for (int64_t i = 0; i < dense.size(); i++)
      dense[i] = slice.start[i / slice.width * slice.stride + i % slice.width];
    return dense;
  }

  AttentionShape s_;
  std::vector<Guarded<float>> buffers_;
  Slice q_, k_, v_;
};

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

Guarded<float> to_float(const Doubles& x) {
  Guarded<float> y(static_cast<int64_t>(x.size()));
  for (int64_t i = 0; i < y.size(); i++) y[i] = static_cast<float>(at(x, i));
  return y;
}

struct Forward {
  Guarded<float> out, lse;
};

kernels::AttentionForward parameters(const Problem& problem, Tensors& in, Forward& result) {
  const AttentionShape& s = problem.s;
  return {result.out.data(),
          result.lse.data(),
          in.q(),
          in.k(),
          in.v(),
          s.B,
          s.T,
          s.heads,
          s.kv_heads,
          s.head_size,
          in.q_stride(),
          in.k_stride(),
          in.v_stride(),
          problem.scale,
          DType::f32};
}

Forward run_forward(Runner& runner, const Problem& problem, bool fused) {
  const AttentionShape& s = problem.s;
  Tensors in(s, fused);
  in.fill(problem.q, problem.k, problem.v);
  Forward result{Guarded<float>(s.q_elements()), Guarded<float>(s.rows())};
  runner.run(kernels::attention_forward, parameters(problem, in, result));
  return result;
}

struct Backward {
  Guarded<float> d_q, d_k, d_v;
};

kernels::AttentionBackward parameters(const Problem& problem, Tensors& in, const Forward& forward,
                                      Tensors& gradients) {
  const AttentionShape& s = problem.s;
  return {gradients.q(),
          gradients.k(),
          gradients.v(),
          problem.d_out.data(),
          forward.out.data(),
          forward.lse.data(),
          in.q(),
          in.k(),
          in.v(),
          s.B,
          s.T,
          s.heads,
          s.kv_heads,
          s.head_size,
          in.q_stride(),
          in.k_stride(),
          in.v_stride(),
          problem.scale,
          DType::f32};
}

Backward run_backward(Runner& runner, const Problem& problem, bool fused, const Forward& forward) {
  Tensors in(problem.s, fused), gradients(problem.s, fused);
  in.fill(problem.q, problem.k, problem.v);
  runner.run(kernels::attention_backward, parameters(problem, in, forward, gradients));
  EXPECT_TRUE(gradients.gaps_intact());
  return {gradients.dense_q(), gradients.dense_k(), gradients.dense_v()};
}

// Error bounds. u = 2^-24; every rounded operation multiplies its result by (1 + e), |e| <= u; a sum of n
// rounded terms errs by n u times the sum of magnitudes, in any order (see sum_error; one u more for what
// happens to each term).
constexpr double kExp = 4 * kUnit;  // exp of simd.h: 2 ulp
// Weights below e^-87 times the largest may become zero, and results below the smallest normal number
// inexact.
constexpr double kTiny = 0x1p-120;

double terms(int64_t n) {
  return static_cast<double>(n) * kUnit;
}

// What bounds depend on: magnitudes of the same sums without cancellation.
struct Bounds {
  Doubles out, lse, d_q, d_k, d_v;

  Bounds(const Problem& problem, const AttentionValues& values, const AttentionGradients& gradients) {
    const AttentionShape& s = problem.s;
    out = zeros(s.q_elements()), lse = zeros(s.rows());
    d_q = zeros(s.q_elements()), d_k = zeros(s.kv_elements()), d_v = zeros(s.kv_elements());
    const double scale = problem.scale;
    const auto q = [&](int64_t b, int64_t t, int64_t h, int64_t d) {
      return std::fabs(static_cast<double>(problem.q[s.q(b, t, h, d)]));
    };
    const auto d_o = [&](int64_t b, int64_t t, int64_t h, int64_t d) {
      return std::fabs(static_cast<double>(problem.d_out[s.q(b, t, h, d)]));
    };
    const auto k = [&](int64_t b, int64_t u, int64_t h, int64_t d) {
      return std::fabs(static_cast<double>(problem.k[s.kv(b, u, h, d)]));
    };
    const auto v = [&](int64_t b, int64_t u, int64_t h, int64_t d) {
      return std::fabs(static_cast<double>(problem.v[s.kv(b, u, h, d)]));
    };

    // A score: head_size products, one factor scaled before. score_error: the largest of a row.
    Doubles score_error = zeros(s.rows()), largest = zeros(s.rows()), score_magnitude = zeros(s.rows() * s.T);
    s.for_each_pair([&](int64_t b, int64_t h, int64_t t, int64_t u) {
      double magnitude = 0;
      for (int64_t d = 0; d < s.head_size; d++) magnitude += scale * q(b, t, h, d) * k(b, u, h, d);
      const int64_t row = s.row(b, h, t), pair = s.pair(b, h, t, u);
      at(score_error, row) = std::fmax(at(score_error, row), terms(s.head_size + 1) * magnitude);
      at(largest, row) = std::fmax(at(largest, row), std::fabs(at(values.score, pair)));
      at(score_magnitude, pair) = magnitude;
    });

    // A weight of the online softmax: the arguments of its exponentials, one per tile of keys at most (one
    // key is a tile of its own at worst), add up to score minus maximum, at most 2 (largest + score_error),
    // and are rounded each; every tile brings an exponential and a product. Normalising divides by a sum of T
    // such weights, and takes the reciprocal's and the product's rounding; then `out` is a sum of T products.
    const int64_t tiles = (s.T + kKeysPerTile - 1) / kKeysPerTile;
    const auto weight = [&](int64_t row) {
      return at(score_error, row) + 2 * kUnit * (at(largest, row) + at(score_error, row)) +
             static_cast<double>(tiles + 1) * (kExp + kUnit);
    };
    s.for_each_pair([&](int64_t b, int64_t h, int64_t t, int64_t u) {
      const int64_t row = s.row(b, h, t);
      const double relative = std::expm1(2 * weight(row) + 2 * terms(s.T + tiles) + 3 * kUnit);
      const double probability = at(values.probability, s.pair(b, h, t, u));
      for (int64_t d = 0; d < s.head_size; d++) {
        at(out, s.q(b, t, h, d)) += (relative * probability + kTiny) * v(b, u, h, d);
      }
    });
    for (int64_t row = 0; row < s.rows(); row++) {
      // lse = maximum + log(sum): the sum's relative error, logf's 2 ulp, a rounded addition.
      const double log_sum = std::log(static_cast<double>(s.T)) + at(score_error, row);
      at(lse, row) = std::expm1(weight(row) + terms(s.T + tiles)) + 4 * kUnit * log_sum +
                     kUnit * (at(largest, row) + log_sum + at(score_error, row));
    }

    // Backward: out and lse come from the reference, rounded once. A probability: the score, lse's rounding,
    // the rounded difference of both, the exponential.
    Doubles p_error = zeros(s.rows() * s.T), d_score_error = zeros(s.rows() * s.T),
            delta_error = zeros(s.rows());
    for (int64_t b = 0; b < s.B; b++) {
      for (int64_t h = 0; h < s.heads; h++) {
        for (int64_t t = 0; t < s.T; t++) {
          for (int64_t d = 0; d < s.head_size; d++) {
            at(delta_error, s.row(b, h, t)) +=
                terms(s.head_size + 1) * d_o(b, t, h, d) * std::fabs(at(values.out, s.q(b, t, h, d)));
          }
        }
      }
    }
    s.for_each_pair([&](int64_t b, int64_t h, int64_t t, int64_t u) {
      const int64_t row = s.row(b, h, t), pair = s.pair(b, h, t, u);
      const double probability = at(values.probability, pair), log_sum = std::fabs(at(values.lse, row));
      const double own = terms(s.head_size + 1) * at(score_magnitude, pair);
      const double exponent = own + kUnit * log_sum + kUnit * (at(largest, row) + log_sum + own) + kExp;
      at(p_error, pair) = probability * std::expm1(exponent) + kTiny;
      // dS = p (dP - delta): dP is a sum of head_size products; two more roundings.
      double d_p = 0, magnitude = 0;
      for (int64_t d = 0; d < s.head_size; d++) {
        d_p += static_cast<double>(problem.d_out[s.q(b, t, h, d)]) *
               static_cast<double>(problem.v[s.kv(b, u, h, d)]);
        magnitude += d_o(b, t, h, d) * v(b, u, h, d);
      }
      const double difference_error = terms(s.head_size) * magnitude + at(delta_error, row);
      const double difference =
          probability > 0 ? std::fabs(at(gradients.d_score, pair)) / probability : magnitude;
      at(d_score_error, pair) = (probability + at(p_error, pair)) *
                                    (difference_error + 2 * kUnit * (difference + difference_error)) +
                                at(p_error, pair) * (difference + difference_error);
    });
    const int64_t queries = s.T * (s.heads / s.kv_heads);  // that read one key
    s.for_each_pair([&](int64_t b, int64_t h, int64_t t, int64_t u) {
      const int64_t pair = s.pair(b, h, t, u);
      const double probability = at(values.probability, pair),
                   d_score = std::fabs(at(gradients.d_score, pair));
      const auto product = [](double x, double x_error, double sum) { return x_error + sum * (x + x_error); };
      for (int64_t d = 0; d < s.head_size; d++) {
        at(d_v, s.kv(b, u, h, d)) +=
            d_o(b, t, h, d) * product(probability, at(p_error, pair), terms(queries + 1));
        at(d_k, s.kv(b, u, h, d)) +=
            scale * q(b, t, h, d) * product(d_score, at(d_score_error, pair), terms(queries + 2));
        at(d_q, s.q(b, t, h, d)) +=
            scale * k(b, u, h, d) * product(d_score, at(d_score_error, pair), terms(s.T + 2));
      }
    });
  }

 private:
  static constexpr int64_t kKeysPerTile = 64;
};

std::function<double(int64_t)> of(const Doubles& bounds) {
  return [&bounds](int64_t i) { return at(bounds, i); };
}

// Forward and backward on every instruction set in both layouts. The number of threads walks through 1, 2, 3,
// so that tasks are whole heads as well as tiles.
void check(const Problem& problem) {
  const AttentionValues values = problem.values();
  const AttentionGradients gradients = problem.gradients();
  const Bounds bounds(problem, values, gradients);
  const Forward exact{to_float(values.out), to_float(values.lse)};
  int threads = 0;
  for (Isa isa : isas()) {
    for (bool fused : {true, false}) {
      threads = threads % 3 + 1;
      Runner runner(isa, threads);
      SCOPED_TRACE(fmt::format("{} {} {} threads={}", name_of(problem.s), kiln::name_of(isa),
                               fused ? "fused" : "separate", threads));
      const Forward forward = run_forward(runner, problem, fused);
      expect_close("out", forward.out, values.out, of(bounds.out));
      expect_close("lse", forward.lse, values.lse, of(bounds.lse));
      const Backward backward = run_backward(runner, problem, fused, exact);
      expect_close("d_q", backward.d_q, gradients.d_q, of(bounds.d_q));
      expect_close("d_k", backward.d_k, gradients.d_k, of(bounds.d_k));
      expect_close("d_v", backward.d_v, gradients.d_v, of(bounds.d_v));
    }
  }
}

TEST(Attention, MatchesReferenceForEveryLength) {
  for (int64_t T : {1, 2, 3, 17, 31, 64, 65, 100, 129}) check(Problem({2, T, 2, 1, 20}));
}

TEST(Attention, MatchesReferenceForEveryHeadSize) {
  for (int64_t head_size : {1, 3, 8, 16, 20, 32, 64, 80, 128, 256}) check(Problem({1, 70, 1, 1, head_size}));
}

TEST(Attention, MatchesReferenceForEveryGrouping) {
  for (int64_t heads : {1, 2, 3, 6}) {
    for (int64_t kv_heads : {1, 2, 3, 6}) {
      if (heads % kv_heads == 0) check(Problem({3, 67, heads, kv_heads, 16}));
    }
  }
}

TEST(Attention, MatchesReferenceOnLongSequences) {
  check(Problem({1, 256, 3, 3, 64}));
  check(Problem({2, 256, 2, 1, 32}));
}

// Scores reach beyond +-1e3, where exp overflows unless the maximum is taken off first.
TEST(Attention, SurvivesHugeScores) {
  const AttentionShape s{1, 130, 2, 2, 32};
  const double size = std::sqrt(1200 / std::sqrt(32.0));  // q . k / sqrt(32) = 1200 for constant q = k = size
  const auto largest = [](const AttentionValues& values, double sign) {
    double m = 0;
    for (double score : values.score) m = std::max(m, sign * score);
    return m;
  };
  const Problem mixed(s, 25), high(s, 0.3, size, size), low(s, 0.3, size, -size);
  EXPECT_GT(largest(mixed.values(), 1), 1e3);
  EXPECT_GT(largest(mixed.values(), -1), 1e3);
  EXPECT_GT(largest(high.values(), 1), 1e3);
  EXPECT_GT(largest(low.values(), -1), 1e3);
  for (const Problem* problem : {&mixed, &high, &low}) check(*problem);
}

// What lies in the future may change: not one bit of the past does.
TEST(Attention, DoesNotSeeTheFuture) {
  const AttentionShape s{1, 100, 1, 1, 16};
  constexpr int64_t kChanged = 37;
  const Problem before(s);
  Problem after(s);
  for (int64_t i = kChanged * s.head_size; i < s.T * s.head_size; i++) {
    after.q[i] = -3 * after.q[i];
    after.k[i] = 1 - after.k[i];
    after.v[i] = 5 + after.v[i];
    after.d_out[i] = 0;
  }
  for (Isa isa : isas()) {
    SCOPED_TRACE(kiln::name_of(isa));
    Runner runner(isa, 1);
    const Forward a = run_forward(runner, before, true), b = run_forward(runner, after, true);
    EXPECT_EQ(std::memcmp(a.out.data(), b.out.data(), kChanged * s.head_size * sizeof(float)), 0);
    EXPECT_EQ(std::memcmp(a.lse.data(), b.lse.data(), kChanged * sizeof(float)), 0);
    EXPECT_NE(a.out[kChanged * s.head_size], b.out[kChanged * s.head_size]);
    // No gradient flows to tokens that only tokens without gradient can see.
    const Backward gradients = run_backward(runner, after, true, b);
    for (int64_t i = kChanged * s.head_size; i < s.T * s.head_size; i++) {
      EXPECT_EQ(gradients.d_k[i], 0.0f);
      EXPECT_EQ(gradients.d_v[i], 0.0f);
      EXPECT_EQ(gradients.d_q[i], 0.0f);
    }
  }
}

// One and more threads divide the work differently (whole heads, tiles): bitwise the same.
TEST(Attention, DoesNotDependOnThreads) {
  for (const AttentionShape& s : {AttentionShape{1, 200, 1, 1, 64}, {2, 129, 4, 2, 20}, {3, 65, 6, 6, 32}}) {
    const Problem problem(s);
    for (Isa isa : isas()) {
      SCOPED_TRACE(fmt::format("{} {}", name_of(s), kiln::name_of(isa)));
      Runner one(isa, 1);
      const Forward forward = run_forward(one, problem, true);
      const Backward backward = run_backward(one, problem, true, forward);
      for (int threads : {2, 3, 8}) {
        Runner runner(isa, threads);
        const Forward f = run_forward(runner, problem, true);
        EXPECT_TRUE(f.out.same_bits(forward.out)) << threads;
        EXPECT_TRUE(f.lse.same_bits(forward.lse)) << threads;
        const Backward g = run_backward(runner, problem, true, forward);
        EXPECT_TRUE(g.d_q.same_bits(backward.d_q)) << threads;
        EXPECT_TRUE(g.d_k.same_bits(backward.d_k)) << threads;
        EXPECT_TRUE(g.d_v.same_bits(backward.d_v)) << threads;
      }
    }
  }
}

template <class Params>
size_t announced_bytes(Context& context, void (*kernel)(Context&, const Params&), const Params& p) {
  DryRun record;
  context.dry_run = &record;
  kernel(context, p);
  context.dry_run = nullptr;
  return record.workspace_bytes;
}

// The runner gives exactly what is announced; one byte less is too little, so the announcement is no
// overestimate.
TEST(Attention, AnnouncesExactlyTheWorkspaceItTakes) {
  const Problem problem({2, 130, 2, 1, 20});
  for (int threads : {1, 3}) {
    Runner runner(Isa::baseline, threads);
    Context& context = runner.context();
    Tensors in(problem.s, true), gradients(problem.s, true);
    in.fill(problem.q, problem.k, problem.v);
    Forward forward = run_forward(runner, problem, true);
    const auto expect_exact = [&](auto kernel, const auto& p) {
      const size_t bytes = announced_bytes(context, kernel, p);
      Guarded<unsigned char> workspace(static_cast<int64_t>(bytes));
      context.workspace = Workspace(workspace.data(), bytes - 1);
      EXPECT_THROW(kernel(context, p), Error);
      context.workspace = Workspace(workspace.data(), bytes);
      EXPECT_NO_THROW(kernel(context, p));
      context.workspace = Workspace();
    };
    expect_exact(&kernels::attention_forward, parameters(problem, in, forward));
    expect_exact(&kernels::attention_backward, parameters(problem, in, forward, gradients));
  }
}

// The reference itself: its gradients against central differences of its forward pass. With inputs of order
// one, third derivatives stay below 100 and the loss below 100: truncation and rounding stay below 1e-8.
TEST(AttentionReference, GradientsMatchCentralDifferences) {
  for (const AttentionShape& s :
       {AttentionShape{1, 1, 1, 1, 1}, {1, 5, 2, 2, 3}, {2, 4, 4, 2, 2}, {1, 7, 3, 1, 1}}) {
    SCOPED_TRACE(name_of(s));
    const Problem problem(s);
    const AttentionGradients gradients = problem.gradients();
    Doubles q = to_double(problem.q), k = to_double(problem.k), v = to_double(problem.v);
    const auto loss = [&] {
      const Doubles out = reference_attention(s, problem.scale, q, k, v).out;
      double sum = 0;
      for (size_t i = 0; i < out.size(); i++)
        sum += static_cast<double>(problem.d_out[static_cast<int64_t>(i)]) * out[i];
      return sum;
    };
    const auto check_gradient = [&](const char* what, Doubles& x, const Doubles& gradient) {
      for (size_t i = 0; i < x.size(); i++) {
        EXPECT_NEAR(central_difference(loss, x[i]), gradient[i], 1e-8) << what << " " << i;
      }
    };
    check_gradient("q", q, gradients.d_q);
    check_gradient("k", k, gradients.d_k);
    check_gradient("v", v, gradients.d_v);
  }
}

}  // namespace
}  // namespace kiln::tests
