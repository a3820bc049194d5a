// attention_decode and attention_store: the last query of a sequence whose keys and values are in a cache.
#include "tests/kernels/attention_problem.h"

namespace kiln::tests {
namespace {

struct Caches {
  Guarded<float> k, v;  // (B, kv_heads, capacity, head_size); positions that nobody stored hold NaN
  int64_t capacity;
};

// Stores the problem's T tokens in pieces, as a prompt and single tokens would come; rows of k and v lie `gap`
// elements too far apart.
Caches store(Runner& runner, const Problem& problem, int64_t capacity, std::vector<int64_t> pieces,
             int64_t gap) {
  const AttentionShape& s = problem.s;
  const int64_t elements = s.B * s.kv_heads * capacity * s.head_size, width = s.kv_heads * s.head_size;
  Caches caches{Guarded<float>(elements), Guarded<float>(elements), capacity};
  int64_t position = 0;
  for (const int64_t T : pieces) {
    Guarded<float> k((s.B * T - 1) * (width + gap) + width), v((s.B * T - 1) * (width + gap + 2) + width);
    for (int64_t row = 0; row < s.B * T; row++) {
      const int64_t from = (row / T * s.T + position + row % T) * width;
      for (int64_t i = 0; i < width; i++) {
        k[row * (width + gap) + i] = problem.k[from + i];
        v[row * (width + gap + 2) + i] = problem.v[from + i];
      }
    }
    runner.run(kernels::attention_store, kernels::AttentionStore{.k_cache = caches.k.data(),
                                                                 .v_cache = caches.v.data(),
                                                                 .k = k.data(),
                                                                 .v = v.data(),
                                                                 .B = s.B,
                                                                 .T = T,
                                                                 .kv_heads = s.kv_heads,
                                                                 .head_size = s.head_size,
                                                                 .capacity = capacity,
                                                                 .position = position,
                                                                 .k_stride = width + gap,
                                                                 .v_stride = width + gap + 2,
                                                                 .dtype = DType::f32});
    position += T;
  }
  EXPECT_EQ(position, s.T);
  return caches;
}

// The output (B, heads, head_size) of the last position's queries.
Guarded<float> decode(Runner& runner, const Problem& problem, const Caches& caches, int64_t gap) {
  const AttentionShape& s = problem.s;
  const int64_t width = s.heads * s.head_size;
  Guarded<float> q((s.B - 1) * (width + gap) + width), out(s.B * width);
  for (int64_t b = 0; b < s.B; b++) {
    for (int64_t i = 0; i < width; i++) q[b * (width + gap) + i] = problem.q[s.q(b, s.T - 1, 0, 0) + i];
  }
  runner.run(kernels::attention_decode, kernels::AttentionDecode{.out = out.data(),
                                                                 .q = q.data(),
                                                                 .k = caches.k.data(),
                                                                 .v = caches.v.data(),
                                                                 .B = s.B,
                                                                 .heads = s.heads,
                                                                 .kv_heads = s.kv_heads,
                                                                 .head_size = s.head_size,
                                                                 .capacity = caches.capacity,
                                                                 .length = s.T,
                                                                 .q_stride = width + gap,
                                                                 .scale = problem.scale,
                                                                 .dtype = DType::f32});
  return out;
}

std::vector<int64_t> pieces_of(int64_t T) {
  if (T < 3) return std::vector<int64_t>(static_cast<size_t>(T), 1);
  return {T - 2, 1, 1};
}

// Against the last rows of the reference, within the bounds of the forward pass: there are as many keys, the
// tiles of 64 keys are the same, and so is the list of rounded operations.
void check_decode(const Problem& problem) {
  const AttentionShape& s = problem.s;
  const AttentionValues values = problem.values();
  const ScoreErrors scores(problem, values);
  const ForwardBounds bounds(problem, values, scores);
  const int64_t width = s.heads * s.head_size;
  Doubles expected = zeros(s.B * width), bound = zeros(s.B * width);
  for (int64_t b = 0; b < s.B; b++) {
    for (int64_t i = 0; i < width; i++) {
      at(expected, b * width + i) = at(values.out, s.q(b, s.T - 1, 0, 0) + i);
      at(bound, b * width + i) = at(bounds.out, s.q(b, s.T - 1, 0, 0) + i);
    }
  }
  int threads = 0;
  for (Isa isa : isas()) {
    for (const int64_t spare : {0, 5}) {  // positions in the cache that are not used yet; gaps between rows
      threads = threads % 3 + 1;
      SCOPED_TRACE(fmt::format("{} {} spare={} threads={}", name_of(s), kiln::name_of(isa), spare, threads));
      Runner runner(isa, threads);
      const Caches caches = store(runner, problem, s.T + spare, pieces_of(s.T), spare);
      expect_close("out", decode(runner, problem, caches, spare), expected, of(bound));
    }
  }
}

TEST(AttentionDecode, MatchesReferenceForEveryLength) {
  for (int64_t T : {1, 2, 3, 5, 15, 16, 17, 31, 63, 64, 65, 67, 100, 127, 128, 129, 257})
    check_decode(Problem({2, T, 2, 1, 20}));
}

TEST(AttentionDecode, MatchesReferenceForEveryHeadSize) {
  for (int64_t head_size : {1, 2, 3, 7, 8, 13, 16, 20, 31, 32, 48, 64, 80, 96, 128, 131, 256}) {
    check_decode(Problem({1, 70, 1, 1, head_size}));
  }
}

TEST(AttentionDecode, MatchesReferenceForEveryGrouping) {
  for (int64_t heads : {1, 2, 3, 6, 7}) {
    for (int64_t kv_heads : {1, 2, 3, 6, 7}) {
      if (heads % kv_heads == 0) check_decode(Problem({3, 67, heads, kv_heads, 16}));
    }
  }
}

TEST(AttentionDecode, MatchesReferenceOnRandomShapes) {
  const Random random(3, 0);
  uint64_t draw = 0;
  const auto between = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random.uniform(draw++) * static_cast<double>(high - low + 1));
  };
  for (int i = 0; i < 30; i++) {
    const int64_t kv_heads = between(1, 4), group = between(1, 3);
    check_decode(Problem({between(1, 3), between(1, 150), kv_heads * group, kv_heads, between(1, 70)}));
  }
}

// Scores reach beyond +-1e3, where exp overflows unless the maximum is taken off first; with constant keys and
// growing ones the maximum stands in the first tile or moves in every tile.
TEST(AttentionDecode, SurvivesHugeScores) {
  const double size = std::sqrt(1200 / std::sqrt(32.0));  // q . k / sqrt(32) = 1200 for constant q = k = size
  check_decode(Problem({1, 200, 2, 2, 32}, 25));
  check_decode(Problem({1, 200, 2, 2, 32}, 0.3, size, size));
  check_decode(Problem({1, 200, 2, 2, 32}, 0.3, size, -size));
  for (const double direction : {1.0, -1.0}) {
    Problem sorted({1, 200, 1, 1, 32}, 0.3, size, 0);
    for (int64_t i = 0; i < sorted.k.size(); i++) {
      sorted.k[i] += static_cast<float>(direction * size * static_cast<double>(i / 32) / 200);
    }
    check_decode(sorted);
  }
}

TEST(AttentionDecode, DoesNotDependOnThreads) {
  for (const AttentionShape& s : {AttentionShape{1, 300, 5, 5, 64}, {2, 129, 6, 2, 20}}) {
    const Problem problem(s);
    for (Isa isa : isas()) {
      Runner one(isa, 1);
      const Caches caches = store(one, problem, s.T, {s.T}, 0);
      const Guarded<float> out = decode(one, problem, caches, 0);
      for (int threads : {2, 3, 8}) {
        Runner runner(isa, threads);
        const Caches again = store(runner, problem, s.T, {s.T}, 0);
        EXPECT_TRUE(again.k.same_bits(caches.k) && again.v.same_bits(caches.v));
        EXPECT_TRUE(decode(runner, problem, again, 0).same_bits(out)) << kiln::name_of(isa) << " " << threads;
      }
    }
  }
}

// What was stored, and nothing else, is in the cache: pieces may come in any size, others' positions stay.
TEST(AttentionStore, PutsEveryRowInItsPlace) {
  const Problem problem({2, 37, 6, 3, 13});
  const AttentionShape& s = problem.s;
  for (Isa isa : isas()) {
    Runner runner(isa, 2);
    for (const std::vector<int64_t>& pieces : {std::vector<int64_t>{37}, {1, 36}, {20, 1, 16}}) {
      const Caches caches = store(runner, problem, 40, pieces, 3);
      for (int64_t b = 0; b < s.B; b++) {
        for (int64_t h = 0; h < s.kv_heads; h++) {
          for (int64_t i = 0; i < 40 * s.head_size; i++) {
            const int64_t t = i / s.head_size, at = ((b * s.kv_heads + h) * 40) * s.head_size + i;
            if (t >= s.T) {
              ASSERT_TRUE(std::isnan(caches.k[at]) && std::isnan(caches.v[at]));
              continue;
            }
            const int64_t from = ((b * s.T + t) * s.kv_heads + h) * s.head_size + i % s.head_size;
            ASSERT_EQ(caches.k[at], problem.k[from]);
            ASSERT_EQ(caches.v[at], problem.v[from]);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace kiln::tests
