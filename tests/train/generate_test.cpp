// Continuing a text: with the cache as without it, past the end of the context, by seed.
#include "src/train/generate.h"

#include <algorithm>

#include "src/train/utf8.h"
#include "tests/train/support.h"

namespace kiln::train {
namespace {

using kiln::testing::TemporaryFolder;
using models::random_tokens;

class Generate : public ::testing::Test {
 protected:
  Generate() { write_shard(folder_ / "training.bin", random_tokens(200, 29, 3)); }

  // Sequences of T tokens, a vocabulary of 29.
  std::unique_ptr<RunBench> bench(int64_t T, ArenaMode mode = ArenaMode::discrete, int threads = 2) {
    config::Config config = small_config(3, 2);
    config.model.context = 41;
    config.train.sequence = T;
    config.train.tokens_per_step = 6 * T;
    config.sampling.every = 1;
    return std::make_unique<RunBench>(config, folder_ / "training.bin", threads, mode);
  }

 private:
  const TemporaryFolder folder_;
};

std::vector<int32_t> generate(RunBench& bench, const std::vector<int32_t>& prompt, int64_t tokens,
                              const SamplingOptions& options, uint64_t seed = 1, uint64_t sample = 0) {
  Generation generation(bench.context, bench.run, prompt, options, seed, sample);
  std::vector<int32_t> generated;
  for (int64_t i = 0; i < tokens; i++) generated.push_back(generation.next());
  return generated;
}

// The same, from one whole pass for every token.
std::vector<int32_t> generate_without_cache(RunBench& bench, std::vector<int32_t> window, int64_t tokens,
                                            const SamplingOptions& options, uint64_t seed = 1) {
  const auto T = static_cast<size_t>(bench.run.shape.T);
  if (window.size() > T) window.erase(window.begin(), window.end() - static_cast<int64_t>(T));
  const Random random(seed, hash_name("generate"));
  std::vector<int32_t> generated;
  for (int64_t i = 0; i < tokens; i++) {
    if (window.size() > T) {
      window.erase(window.begin(), window.end() - static_cast<int64_t>(std::max<size_t>(T / 2, 1)));
    }
    std::vector<int32_t> padded = window;
    padded.resize(T, 28);
    bench.run.model->prefill(bench.context, padded.data(), bench.run.shape.T,
                             static_cast<int64_t>(window.size()), bench.run.logits);
    const int32_t token = draw_token(bench.run.logits, bench.run.vocab, options,
                                     random.uniform(static_cast<uint64_t>(i)), bench.run.candidates);
    generated.push_back(token);
    window.push_back(token);
  }
  return generated;
}

// Past the end of the context several times, for prompts shorter and longer than it. The weights are spread so
// wide that the likeliest token leads by far more than two ways of rounding its logit differ.
TEST_F(Generate, GreedyTextIsTheSameWithAndWithoutTheCache) {
  for (const ArenaMode mode : {ArenaMode::discrete, ArenaMode::slab}) {
    for (const int64_t T : {1, 2, 3, 7, 16, 17, 33}) {
      const auto run = bench(T, mode);
      for (const int64_t prompt : {1, 2, 6, 7, 8, 33, 50}) {
        const std::vector<int32_t> tokens = random_tokens(prompt, 29, static_cast<uint64_t>(prompt));
        EXPECT_EQ(generate(*run, tokens, 3 * T + 20, {.temperature = 0}),
                  generate_without_cache(*run, tokens, 3 * T + 20, {.temperature = 0}))
            << "T " << T << ", prompt " << prompt;
      }
    }
  }
}

TEST_F(Generate, DrawnTextIsTheSameWithAndWithoutTheCache) {
  const auto run = bench(17);
  const SamplingOptions options{.temperature = 1.5, .top_k = 20, .top_p = 0.95};
  for (const uint64_t seed : {1, 2, 3}) {
    EXPECT_EQ(generate(*run, {3, 4}, 60, options, seed),
              generate_without_cache(*run, {3, 4}, 60, options, seed));
  }
}

TEST_F(Generate, FollowsTheSeedAndTheSampleAndNothingElse) {
  const SamplingOptions options{.temperature = 3};
  const auto run = bench(17);
  const std::vector<int32_t> first = generate(*run, {3}, 50, options);
  EXPECT_EQ(generate(*run, {3}, 50, options), first);
  EXPECT_EQ(generate(*bench(17, ArenaMode::slab), {3}, 50, options), first);
  EXPECT_EQ(generate(*bench(17, ArenaMode::discrete, 1), {3}, 50, options), first);
  EXPECT_NE(generate(*run, {3}, 50, options, 2), first);
  EXPECT_NE(generate(*run, {3}, 50, options, 1, 1), first);
}

// Sampling during training leaves the run as it was.
TEST_F(Generate, LeavesTrainingAsItWas) {
  const auto sampled = bench(17, ArenaMode::slab), undisturbed = bench(17, ArenaMode::slab);
  for (int step = 0; step < 3; step++) {
    const std::string before = sampled->bytes();
    generate(*sampled, {3, 4, 5}, 40, {});
    EXPECT_TRUE(sampled->bytes() == before);
    EXPECT_EQ(sampled->step().loss, undisturbed->step().loss);
    EXPECT_TRUE(sampled->bytes() == undisturbed->bytes());
  }
}

TEST(Utf8, HoldsBackOnlyWhatMayBecomeACharacter) {
  const std::string text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x99\x82z";  // characters of 1, 2, 3, 4, 1 bytes
  const size_t complete[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11};
  for (size_t n = 0; n <= text.size(); n++) {
    EXPECT_EQ(complete_characters(std::string_view(text).substr(0, n)), complete[n]) << n;
  }
  for (const std::string broken :
       {"\x80", "\x80\x80\x80\x80", "a\xFF", "a\xC0", "a\xC1", "\xF5", "\xC3\x28", "\xC3\xA9\xA9"}) {
    EXPECT_EQ(complete_characters(broken), broken.size());
  }
}

}  // namespace
}  // namespace kiln::train
