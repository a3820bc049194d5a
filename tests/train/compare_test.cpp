#include "src/train/compare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "src/config/load.h"
#include "src/core/file.h"
#include "src/train/plot.h"
#include "tests/core/temporary_folder.h"
#include "tests/paths.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;
using kiln::testing::error_message;
using kiln::testing::TemporaryFolder;

// Steps 1 .. n of `ms` each with training loss `start - step`, validation every `every` steps at `start - step + 0.5`.
MetricsLog made(int n, double start, double ms, int every) {
  MetricsLog log;
  for (int i = 1; i <= n; i++) {
    const double seconds = ms * 1e-3 * i;
    log.steps.push_back({.step = i,
                         .tokens = 10 * i,
                         .loss = start - i,
                         .lr = 1,
                         .gradient_norm = 1,
                         .ms = ms,
                         .mfu = 0.5,
                         .seconds = seconds,
                         .skipped = false});
    if (i % every == 0) {
      log.validations.push_back(
          {.step = i, .tokens = 10 * i, .loss = start - i + 0.5, .unigram_entropy = 6, .seconds = seconds});
    }
  }
  return log;
}

TEST(ValidationAt, IsTheLastOneUpToThere) {
  const MetricsLog log =
      made(10, 100, 500, 4);  // validations at steps 4 and 8: 2 s and 4 s, 40 and 80 tokens
  EXPECT_FALSE(validation_at(log, Axis::steps, 3));
  EXPECT_EQ(validation_at(log, Axis::steps, 4), 96.5);
  EXPECT_EQ(validation_at(log, Axis::steps, 7), 96.5);
  EXPECT_EQ(validation_at(log, Axis::steps, 10), 92.5);
  EXPECT_FALSE(validation_at(log, Axis::steps, 11)) << "the run has ended";
  EXPECT_EQ(validation_at(log, Axis::tokens, 79), 96.5);
  EXPECT_EQ(validation_at(log, Axis::tokens, 80), 92.5);
  EXPECT_EQ(validation_at(log, Axis::seconds, 3.9), 96.5);
  EXPECT_EQ(validation_at(log, Axis::seconds, 4.1), 92.5);
  EXPECT_FALSE(validation_at(log, Axis::seconds, 5.1));
}

TEST(TrainingAt, IsTheMeanOfTheLastSteps) {
  MetricsLog log = made(10, 100, 500, 4);
  EXPECT_EQ(training_at(log, Axis::steps, 5, 1), 95);
  EXPECT_EQ(training_at(log, Axis::steps, 5, 3), 96);
  EXPECT_EQ(training_at(log, Axis::steps, 5, 100), 97) << "a window longer than the run so far";
  EXPECT_FALSE(training_at(log, Axis::steps, 0.5, 3));
  EXPECT_FALSE(training_at(log, Axis::steps, 11, 3));
  log.steps[3].skipped = true;
  log.steps[4].loss = std::nan("");
  EXPECT_EQ(training_at(log, Axis::steps, 5, 3), 97);
  EXPECT_FALSE(training_at(log, Axis::steps, 5, 2));
}

TEST(ReachOf, TheFirstValidationAtOrBelow) {
  const MetricsLog log = made(12, 100, 500, 4);  // 96.5, 92.5, 88.5
  const Reach r = reach(log, 93);
  ASSERT_NE(r.at, nullptr);
  EXPECT_EQ(r.at->step, 8);
  EXPECT_EQ(r.before->step, 4);
  EXPECT_EQ(reach(log, 92.5).at->step, 8);
  EXPECT_EQ(reach(log, 99).at->step, 4);
  EXPECT_EQ(reach(log, 99).before, nullptr);
  EXPECT_EQ(reach(log, 88).at, nullptr);
}

TEST(Places, StandAtValidationsAndKeepTheLast) {
  Comparison c{
      .runs = {{.path = "a", .config = {}, .log = made(12, 100, 500, 4), .data = "", .processor = ""},
               {.path = "b", .config = {}, .log = made(10, 100, 1000, 5), .data = "", .processor = ""}},
      .options = {.rows = 10, .window = 1},
      .warnings = {},
      .differences = {}};
  EXPECT_EQ(places(c, Axis::steps), (std::vector<double>{4, 5, 8, 10, 12}));
  EXPECT_EQ(places(c, Axis::tokens), (std::vector<double>{40, 50, 80, 100, 120}));
  c.options.rows = 2;
  EXPECT_EQ(places(c, Axis::steps), (std::vector<double>{5, 12}));
  EXPECT_EQ(places(c, Axis::seconds), (std::vector<double>{5, 10})) << "evenly up to the end of the longest";
  for (ComparedRun& run : c.runs) run.log.validations.clear();
  EXPECT_EQ(places(c, Axis::steps), (std::vector<double>{6, 12}));
}

TEST(Plot, MarksStandWhereTheyBelong) {
  const std::string picture = plot({{'A', {{0, 4}, {10, 2}}}, {'B', {{5, 3}, {7, std::nan("")}}}}, 3, 11);
  EXPECT_EQ(picture,
            "    4.000 |A\n"
            "    3.000 |     B\n"
            "    2.000 |          A\n"
            "          +-----------\n"
            "           0        10\n");
  EXPECT_EQ(plot({{'A', {}}}, 3, 11), "");
  EXPECT_NE(plot({{'A', {{5, 3}}}}, 1, 1), "") << "one point has no height";
}

// Their distance is no number of 64 bits.
TEST(Plot, StandsWhatALogMayHold) {
  const double infinity = std::numeric_limits<double>::infinity(), most = std::numeric_limits<double>::max();
  const Curve curve{'A', {{0, most}, {5, infinity}, {6, -infinity}, {7, std::nan("")}, {8, 0}, {10, -most}}};
  const std::string picture = plot({curve}, 3, 11);
  EXPECT_EQ(picture.find("inf"), std::string::npos) << picture;
  EXPECT_NE(picture.find("|A\n"), std::string::npos) << picture;
  EXPECT_NE(picture.find("0.000 |        A\n"), std::string::npos) << picture;
  EXPECT_NE(picture.find("|          A\n"), std::string::npos) << picture;
}

class CompareRuns : public ::testing::Test {
 protected:
  // A run folder with two validations; `overrides` change its config.
  fs::path run(const std::string& name, double loss, std::vector<std::string> overrides = {},
               double entropy = 6) {
    fs::create_directories(folder_ / name);
    overrides.push_back("output.dir=" + (folder_ / name).string());
    overrides.push_back("train.steps=4");
    overrides.push_back("schedule.warmup=0");
    const auto config = config::load(paths::source() + "/configs/gpt2-mini/adamw.json", overrides);
    folder_.write(name + "/config.json", config::to_json(config));
    std::string log;
    for (int i = 1; i <= 4; i++) {
      log += fmt::format("{{\"loss\":{},\"ms\":1000,\"step\":{},\"tokens\":{}}}\n", loss + 4 - i, i, 512 * i);
      if (i % 2 == 0)
        log += fmt::format("{{\"step\":{},\"unigram_entropy\":{},\"validation_loss\":{}}}\n", i, entropy,
                           loss + 4 - i);
    }
    folder_.write(name + "/metrics.jsonl", log);
    return folder_ / name;
  }

  static std::string warnings(const Comparison& c) { return fmt::format("{}", fmt::join(c.warnings, "\n")); }

  TemporaryFolder folder_;
};

TEST_F(CompareRuns, NothingToWarnOfAndTheDifferences) {
  const Comparison c = compare({run("a", 3), run("b", 2.5, {"optimizer.lr=0.004"})}, {});
  EXPECT_EQ(warnings(c), "");
  EXPECT_TRUE(c.differences[0].empty());
  ASSERT_EQ(c.differences[1].size(), 1u);
  EXPECT_EQ(c.differences[1][0].find("optimizer.lr: "), 0u);
  const std::string text = text_of(c);
  EXPECT_NE(text.find("to A's final 3.0000, which took 4 steps, 4.0 s:\n  B   4 steps (1.000 of A's), 4.0 s "
                      "(1.000); not yet at step 2"),
            std::string::npos)
      << text;
  EXPECT_NE(
      text.find("to B's final 2.5000, which took 4 steps, 4.0 s:\n  A   not reached, its best is 3.0000"),
      std::string::npos)
      << text;
  EXPECT_NE(text.find("equal steps are equal tokens"), std::string::npos);
  EXPECT_NE(csv_of(c).find(fmt::format("\n\"{}\",B,2,1024,2.000,5,4.5\n", (folder_ / "b").string())),
            std::string::npos)
      << csv_of(c);
}

TEST_F(CompareRuns, WhatMakesLossesNotComparable) {
  EXPECT_NE(warnings(compare({run("a", 3), run("b", 3, {"data.tokenizer=gpt2", "model.vocab=50257"})}, {}))
                .find("tokenizers differ"),
            std::string::npos);
  EXPECT_EQ(warnings(compare({run("a", 3), run("b", 3, {"data.validation=moved.bin"})}, {})), "")
      << "the same tokens under another name";
  const std::string tokens =
      warnings(compare({run("a", 3), run("b", 3, {"data.validation=other.bin"}, 6.001)}, {}));
  EXPECT_NE(tokens.find("validations read different tokens"), std::string::npos) << tokens;
  EXPECT_NE(tokens.find("other.bin"), std::string::npos) << tokens;
  EXPECT_NE(
      warnings(compare({run("a", 3), run("b", 3, {"train.sequence=64", "train.tokens_per_step=512"})}, {}))
          .find("train.sequence differ"),
      std::string::npos);
  const fs::path a = run("a", 3), b = run("b", 3, {"device.threads=3"});
  folder_.write("a/versions.json", "{\"processor\": \"one\"}");
  folder_.write("b/versions.json", "{\"processor\": \"other\"}");
  const std::string both = warnings(compare({a, b}, {}));
  EXPECT_NE(both.find("processors differ"), std::string::npos);
  EXPECT_NE(both.find("device.threads differ"), std::string::npos);
}

TEST_F(CompareRuns, RunsThatAreNotWhole) {
  const fs::path a = run("a", 3), b = run("b", 3);
  folder_.write("b/metrics.jsonl", "{\"loss\":4,\"ms\":1000,\"step\":1,\"tokens\":512}\n{\"step\":2,\"lo");
  const Comparison c = compare({a, b}, {});
  EXPECT_NE(warnings(c).find("has no validation"), std::string::npos);
  EXPECT_NE(warnings(c).find("is cut off"), std::string::npos);
  EXPECT_NE(warnings(c).find("has done 1 of its 4 steps"), std::string::npos);
  EXPECT_FALSE(text_of(c).empty());
  fs::remove(b / "config.json");
  EXPECT_NE(warnings(compare({a, b}, {})).find("its config cannot be read"), std::string::npos);
  folder_.write("b/metrics.jsonl", "");
  EXPECT_NE(error_message(ExitCode::data,
                          [&] {
                            compare({a, b}, {});
                          })
                .find("holds no step"),
            std::string::npos);
  error_message(ExitCode::data, [&] { compare({a, folder_ / "nothing"}, {}); });
}

// Where train.epochs decides, config.json holds no number of steps: the log says it.
TEST_F(CompareRuns, ARunOfEpochsThatIsNotFinished) {
  const fs::path a = run("a", 3), b = run("b", 3);
  auto config = config::load(b / "config.json", {"train.steps=0", "train.epochs=2"});
  folder_.write("b/config.json", config::to_json(config));
  const std::string log = read_file(b / "metrics.jsonl");
  folder_.write("b/metrics.jsonl", "{\"ceiling_gflops\":90,\"run_steps\":7,\"step\":0}\n" + log);
  EXPECT_NE(warnings(compare({a, b}, {})).find("has done 4 of its 7 steps"), std::string::npos)
      << warnings(compare({a, b}, {}));
  EXPECT_NE(json_of(compare({a, b}, {})).find("\"run_steps\": 7"), std::string::npos);
  folder_.write("b/metrics.jsonl", "{\"ceiling_gflops\":90,\"run_steps\":4,\"step\":0}\n" + log);
  EXPECT_EQ(warnings(compare({a, b}, {})).find("has done"), std::string::npos);
}

TEST(Letter, OfMoreRunsThanLetters) {
  EXPECT_EQ(letter(0), "A");
  EXPECT_EQ(letter(25), "Z");
  EXPECT_EQ(letter(26), "R27");
}

}  // namespace
}  // namespace kiln::train
