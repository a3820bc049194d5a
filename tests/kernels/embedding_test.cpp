#include "tests/kernels/reference_embedding.h"
#include "tests/kernels/support.h"

namespace kiln::tests {
namespace {

struct Shape3 {
  int64_t B, T, C;
};

// The last ones span several tasks of either pass.
constexpr Shape3 kShapes[] = {{1, 1, 1},  {2, 3, 2},  {5, 1, 3},   {1, 64, 7},  {3, 5, 15},   {2, 7, 16},
                              {4, 9, 17}, {2, 5, 31}, {3, 43, 64}, {2, 11, 65}, {1, 129, 97}, {3, 37, 768}};
constexpr int32_t kVocab = 11;  // few words: most rows of the table receive many gradients

std::vector<int32_t> to_vector(const Guarded<int32_t>& values) {
  return {values.begin(), values.end()};
}

// One rounded addition.
TEST(Embedding, ForwardMatchesReference) {
  for (Isa isa : isas()) {
    for (const Shape3& shape : kShapes) {
      const int64_t B = shape.B, T = shape.T, C = shape.C;
      for (bool positions : {true, false}) {
        SCOPED_TRACE(fmt::format("{} B={} T={} C={} positions={}", name_of(isa), B, T, C, positions));
        Runner runner(isa, 2);
        const auto tokens = integers(B * T, "tokens", 0, kVocab);
        const auto table = normal(kVocab * C, "table"), position = normal(T * C, "position");
        Guarded<float> out(B * T * C);
        runner.run(kernels::embedding_forward,
                   kernels::EmbeddingForward{out.data(), tokens.data(), table.data(),
                                             positions ? position.data() : nullptr, B, T, C, DType::f32});
        const auto expected =
            reference::embedding_forward(to_vector(tokens), to_double(table),
                                         positions ? to_double(position) : std::vector<double>{}, B, T, C);
        expect_close("out", out, expected,
                     [&](int64_t i) { return kUnit * std::fabs(expected[static_cast<size_t>(i)]); });
      }
    }
  }
}

struct Gradients {
  Guarded<float> token, position;
};

Gradients backward(Isa isa, int threads, int64_t B, int64_t T, int64_t C, bool positions) {
  Runner runner(isa, threads);
  const auto tokens = integers(B * T, "tokens", 0, kVocab);
  const auto d_out = normal(B * T * C, "d_out");
  Gradients g{normal(kVocab * C, "d_table"), normal(T * C, "d_position")};  // what earlier micro-batches left
  runner.run(kernels::embedding_backward,
             kernels::EmbeddingBackward{g.token.data(), positions ? g.position.data() : nullptr, d_out.data(),
                                        tokens.data(), B, T, C, DType::f32});
  return g;
}

// A sum of n terms in fp32: sum_error(n) times the sum of magnitudes. The magnitudes come from the reference,
// too, fed with absolute values; n is at most B T + 1.
TEST(Embedding, BackwardMatchesReference) {
  for (Isa isa : isas()) {
    for (const Shape3& shape : kShapes) {
      const int64_t B = shape.B, T = shape.T, C = shape.C;
      for (bool positions : {true, false}) {
        SCOPED_TRACE(fmt::format("{} B={} T={} C={} positions={}", name_of(isa), B, T, C, positions));
        const auto tokens = to_vector(integers(B * T, "tokens", 0, kVocab));
        const auto absolute = [](std::vector<double> values) {
          for (double& x : values) x = std::fabs(x);
          return values;
        };
        const auto d_out = to_double(normal(B * T * C, "d_out"));
        const auto before_token = to_double(normal(kVocab * C, "d_table"));
        const auto before_position = to_double(normal(T * C, "d_position"));
        auto token = before_token, token_size = absolute(before_token);
        auto position = positions ? before_position : std::vector<double>{};
        auto position_size = absolute(position);
        reference::embedding_backward(tokens, d_out, token, position, B, T, C);
        reference::embedding_backward(tokens, absolute(d_out), token_size, position_size, B, T, C);

        const Gradients g = backward(isa, 2, B, T, C, positions);
        expect_close("d_token_table", g.token, token,
                     [&](int64_t i) { return sum_error(B * T + 1) * token_size[static_cast<size_t>(i)]; });
        if (positions) {
          expect_close("d_position_table", g.position, position,
                       [&](int64_t i) { return sum_error(B + 1) * position_size[static_cast<size_t>(i)]; });
        } else {
          EXPECT_TRUE(g.position.same_bits(normal(T * C, "d_position")));
        }
      }
    }
  }
}

TEST(Embedding, BackwardDoesNotDependOnThreads) {
  for (Isa isa : isas()) {
    const Gradients one = backward(isa, 1, 3, 67, 193, true);
    for (int threads : {2, 3}) {
      const Gradients more = backward(isa, threads, 3, 67, 193, true);
      EXPECT_TRUE(one.token.same_bits(more.token) && one.position.same_bits(more.position))
          << name_of(isa) << ", " << threads << " threads";
    }
  }
}

// The reference itself: out is linear in both tables, so a central difference is exact up to rounding.
TEST(Embedding, ReferenceGradientIsNumericGradient) {
  const int64_t B = 2, T = 3, C = 5;
  const auto tokens = to_vector(integers(B * T, "tokens", 0, 4));
  auto table = to_double(normal(4 * C, "table")), position = to_double(normal(T * C, "position"));
  const auto d_out = to_double(normal(B * T * C, "d_out"));
  const auto loss = [&] {
    const auto out = reference::embedding_forward(tokens, table, position, B, T, C);
    double sum = 0;
    for (size_t i = 0; i < out.size(); i++) sum += d_out[i] * out[i];
    return sum;
  };
  std::vector<double> d_table(table.size()), d_position(position.size());
  reference::embedding_backward(tokens, d_out, d_table, d_position, B, T, C);
  for (size_t i = 0; i < table.size(); i++) EXPECT_NEAR(d_table[i], central_difference(loss, table[i]), 1e-8);
  for (size_t i = 0; i < position.size(); i++) {
    EXPECT_NEAR(d_position[i], central_difference(loss, position[i]), 1e-8);
  }
}

}  // namespace
}  // namespace kiln::tests
