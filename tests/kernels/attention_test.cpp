#include <algorithm>
#include <initializer_list>

#include "tests/kernels/attention_problem.h"

namespace kiln::tests {
namespace {

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
  kernels::AttentionForward p{};
  p.out = result.out.data(), p.lse = result.lse.data();
  p.q = in.q(), p.k = in.k(), p.v = in.v();
  p.q_stride = in.q_stride(), p.k_stride = in.k_stride(), p.v_stride = in.v_stride();
  p.B = s.B, p.T = s.T, p.heads = s.heads, p.kv_heads = s.kv_heads, p.head_size = s.head_size;
  p.scale = problem.scale, p.dtype = DType::f32;
  return p;
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
  kernels::AttentionBackward p{};
  p.d_q = gradients.q(), p.d_k = gradients.k(), p.d_v = gradients.v();
  p.d_out = problem.d_out.data(), p.out = forward.out.data(), p.lse = forward.lse.data();
  p.q = in.q(), p.k = in.k(), p.v = in.v();
  p.q_stride = in.q_stride(), p.k_stride = in.k_stride(), p.v_stride = in.v_stride();
  p.B = s.B, p.T = s.T, p.heads = s.heads, p.kv_heads = s.kv_heads, p.head_size = s.head_size;
  p.scale = problem.scale, p.dtype = DType::f32;
  return p;
}

Backward run_backward(Runner& runner, const Problem& problem, bool fused, const Forward& forward) {
  Tensors in(problem.s, fused), gradients(problem.s, fused);
  in.fill(problem.q, problem.k, problem.v);
  runner.run(kernels::attention_backward, parameters(problem, in, forward, gradients));
  EXPECT_TRUE(gradients.gaps_intact());
  return {gradients.dense_q(), gradients.dense_k(), gradients.dense_v()};
}

// Of a backward pass that is given the reference's out and lse, rounded once.
struct BackwardBounds {
  Doubles d_q, d_k, d_v;

  BackwardBounds(const Problem& problem, const AttentionValues& values, const ScoreErrors& scores)
      : d_q(zeros(problem.s.q_elements())),
        d_k(zeros(problem.s.kv_elements())),
        d_v(zeros(problem.s.kv_elements())) {
    const AttentionShape& s = problem.s;
    const double scale = problem.scale;
    const Doubles d_out = to_double(problem.d_out), v = to_double(problem.v);
    const Doubles q_size = magnitudes(problem.q), k_size = magnitudes(problem.k),
                  d_out_size = magnitudes(problem.d_out);
    // delta = d_out . out: head_size products, each with out's own rounding.
    Doubles delta = zeros(s.rows()), delta_error = zeros(s.rows());
    for (int64_t i = 0; i < s.q_elements(); i++) {
      const int64_t token = i / (s.heads * s.head_size), h = i / s.head_size % s.heads;
      const int64_t row = s.row(token / s.T, h, token % s.T);
      at(delta, row) += at(d_out, i) * at(values.out, i);
      at(delta_error, row) += terms(s.head_size + 1) * std::fabs(at(d_out, i) * at(values.out, i));
    }
    const int64_t readers = s.T * (s.heads / s.kv_heads);  // queries of one key at most
    s.for_each_pair([&](int64_t b, int64_t h, int64_t t, int64_t u) {
      const int64_t row = s.row(b, h, t), pair = s.pair(b, h, t, u);
      // p = exp(score - lse): errors of the score and of lse, the rounded difference, the exponential.
      const double p = at(values.probability, pair), lse = std::fabs(at(values.lse, row));
      const double argument = at(scores.of_pair, pair) + kUnit * lse +
                              kUnit * (at(scores.largest_score, row) + at(scores.of_pair, pair) + lse);
      const double p_error = p * std::expm1(argument + kExp) + kTiny;
      // d_score = p (d_p - delta): d_p has head_size products; the difference and the product are rounded.
      double d_p = 0, d_p_error = 0;
      for (int64_t d = 0; d < s.head_size; d++) {
        const double product = at(d_out, s.q(b, t, h, d)) * at(v, s.kv(b, u, h, d));
        d_p += product;
        d_p_error += terms(s.head_size) * std::fabs(product);
      }
      const double difference = std::fabs(d_p - at(delta, row)),
                   difference_error = d_p_error + at(delta_error, row);
      const double d_score = p * difference;
      const double d_score_error =
          (p + p_error) * (difference + difference_error) * (1 + 3 * kUnit) - d_score;
      // Sums over the keys of a query or over the readers of a key; d_q and d_k are scaled.
      const auto summed = [](double x, double x_error, int64_t n) {
        return x_error + terms(n) * (x + x_error);
      };
      for (int64_t d = 0; d < s.head_size; d++) {
        const int64_t q_at = s.q(b, t, h, d), kv_at = s.kv(b, u, h, d);
        at(d_v, kv_at) += at(d_out_size, q_at) * summed(p, p_error, readers + 1);
        at(d_k, kv_at) += scale * at(q_size, q_at) * summed(d_score, d_score_error, readers + 2);
        at(d_q, q_at) += scale * at(k_size, kv_at) * summed(d_score, d_score_error, s.T + 2);
      }
    });
  }
};

// Forward and backward on every instruction set in both layouts. The number of threads walks through 1, 2, 3,
// so that tasks are whole heads as well as tiles.
void check(const Problem& problem) {
  const AttentionValues values = problem.values();
  const AttentionGradients gradients = problem.gradients();
  const ScoreErrors scores(problem, values);
  const ForwardBounds forward_bounds(problem, values, scores);
  const BackwardBounds backward_bounds(problem, values, scores);
  const Forward exact{to_float(values.out), to_float(values.lse)};
  int threads = 0;
  for (Isa isa : isas()) {
    for (bool fused : {true, false}) {
      threads = threads % 3 + 1;
      Runner runner(isa, threads);
      SCOPED_TRACE(fmt::format("{} {} {} threads={}", name_of(problem.s), kiln::name_of(isa),
                               fused ? "fused" : "separate", threads));
      const Forward forward = run_forward(runner, problem, fused);
      expect_close("out", forward.out, values.out, of(forward_bounds.out));
      expect_close("lse", forward.lse, values.lse, of(forward_bounds.lse));
      const Backward backward = run_backward(runner, problem, fused, exact);
      expect_close("d_q", backward.d_q, gradients.d_q, of(backward_bounds.d_q));
      expect_close("d_k", backward.d_k, gradients.d_k, of(backward_bounds.d_k));
      expect_close("d_v", backward.d_v, gradients.d_v, of(backward_bounds.d_v));
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

// What lies in the future may change: the past does not, not by a rounding.
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
    for (int64_t i = 0; i < kChanged * s.head_size; i++) EXPECT_EQ(a.out[i], b.out[i]) << i;
    for (int64_t t = 0; t < kChanged; t++) EXPECT_EQ(a.lse[t], b.lse[t]) << t;
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
