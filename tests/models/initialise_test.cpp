// First values: llm.c's distribution, and independence of threads, layout and padding.
#include <cmath>

#include "models/initialise.h"
#include "tests/models/harness.h"

namespace kiln::models {
namespace {

std::vector<float> drawn(const std::string& name, uint64_t seed, int threads, const ModelShape& shape) {
  Bench bench(shape, tiny_batch(), {.threads = threads});
  bench.model->initialise(bench.context, seed);
  const Parameter& p = bench.parameter(name);
  return {p.master, p.master + p.elements()};
}

class InitialiseFamily : public testing::TestWithParam<Variant> {};
INSTANTIATE_TEST_SUITE_P(Families, InitialiseFamily,
                         testing::Values(Variant{"gpt2", ArenaMode::slab}, Variant{"llama", ArenaMode::slab},
                                         Variant{"llama_tied", ArenaMode::slab}),
                         variant_name);

TEST_P(InitialiseFamily, Distribution) {
  Bench bench(GetParam().shape(), tiny_batch(), {.family = GetParam().family()});
  const uint64_t version = bench.parameter("wte.weight").version;
  bench.model->initialise(bench.context, 1);
  EXPECT_GT(bench.parameter("wte.weight").version, version);  // packed forms are stale
  for (const Parameter& p : bench.parameters().all()) {
    if (p.shape.size() == 1) {
      for (int64_t i = 0; i < p.elements(); i++) {
        ASSERT_EQ(p.master[i], p.name.ends_with("weight") ? 1.0f : 0.0f) << p.name;
      }
      continue;
    }
    const bool residual = p.name.ends_with("proj.weight") || p.name.ends_with("mlp.down.weight");
    const double writers = 2 * static_cast<double>(GetParam().shape().layers);
    const double deviation = residual ? 0.02 / std::sqrt(writers) : 0.02;
    const int64_t n = p.name == "wte.weight" || p.name == "head.weight" ? 67 * 48 : p.elements();
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
      sum += p.master[i];
      squares += static_cast<double>(p.master[i]) * p.master[i];
    }
    // Mean and variance of n normal values scatter by 1/sqrt(n) and sqrt(2/n), in units of the deviation;
    // five of those.
    const double count = static_cast<double>(n);
    EXPECT_NEAR(sum / count / deviation, 0, 5 / std::sqrt(count)) << p.name;
    EXPECT_NEAR(squares / count / (deviation * deviation), 1, 5 * std::sqrt(2 / count)) << p.name;
    for (int64_t i = n; i < p.elements(); i++) ASSERT_EQ(p.master[i], 0.0f) << "padding";
  }
}

TEST(Initialise, DependsOnSeedAndNameOnly) {
  const ModelShape shape = tiny_shape();
  const std::vector<float> fc = drawn("h.1.mlp.fc.weight", 3, 1, shape);
  EXPECT_EQ(drawn("h.1.mlp.fc.weight", 3, 3, shape), fc);
  EXPECT_NE(drawn("h.1.mlp.fc.weight", 4, 3, shape), fc);
  EXPECT_NE(drawn("h.2.mlp.fc.weight", 3, 3, shape), fc);

  ModelShape wider = shape;
  wider.padded_vocab = 128;
  std::vector<float> wte = drawn("wte.weight", 3, 2, shape), padded = drawn("wte.weight", 3, 2, wider);
  wte.resize(67 * 48);
  padded.resize(67 * 48);
  EXPECT_EQ(wte, padded);
}

// A model fresh from initialise knows nothing: its loss is that of a uniform guess, log V. The logits are dot
// products of normalised activations with rows of deviation .02: their own deviation is .02 sqrt(48) = .14,
// which adds half its square, .01, to the expected loss, and scatters the mean of 111 tokens by .14 /
// sqrt(111) = .013; five of those.
TEST_P(InitialiseFamily, FirstLossIsLogV) {
  Bench bench(GetParam().shape(), tiny_batch(), {.family = GetParam().family()});
  bench.model->initialise(bench.context, 5);
  double sum = 0;
  for (float loss : bench.forward(random_tokens(111, 67, 1), random_tokens(111, 67, 2), 3, 37)) sum += loss;
  EXPECT_NEAR(sum / 111, std::log(67.0) + 0.01, 5 * 0.013);
}

}  // namespace
}  // namespace kiln::models
