#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "src/core/error.h"
#include "src/core/file.h"
#include "src/train/checkpoint.h"
#include "src/train/sweep_job.h"
#include "src/train/sweep_progress.h"
#include "src/train/sweep_spec.h"
#include "src/train/sweep_table.h"
#include "tests/core/temporary_folder.h"
#include "tests/optim/support.h"

namespace kiln::train {
namespace {

using testing::TemporaryFolder;

SweepSpec sweep_spec_of(const std::string& text) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "spec.json", text);
  return load_sweep_spec(folder / "spec.json");
}

std::string refusal(const std::string& text) {
  try {
    sweep_spec_of(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    return std::string(error.what()) + " | " + error.hint();
  }
  return "accepted";
}

constexpr const char* kSweepSpec =
    R"({"output": "runs/s", "set": {"train.steps": 9, "schedule.kind": "linear"},
  "arms": [{"name": "a", "config": "a.json", "set": {"train.clip": 2},
            "grid": {"optimizer.lr": [0.1, 0.2], "optimizer.b2": [0.9, 0.99, 0.999]}},
           {"name": "b", "config": "b.json"}],
  "rungs": [{"set": {"train.steps": 3}, "keep": 2}, {"set": {"train.steps": 6}}],
  "final": {"steps": 12, "seeds": [7, 8]}})";

TEST(SweepSpec, GridsAreMultipliedOutInTheOrderOfTheFile) {
  const SweepSpec spec = sweep_spec_of(kSweepSpec);
  ASSERT_EQ(spec.arms.size(), 2u);
  std::vector<std::string> labels;
  for (const Settings& c : spec.arms[0].candidates) labels.push_back(label(c));
  EXPECT_EQ(labels, (std::vector<std::string>{"lr=0.1,b2=0.9", "lr=0.1,b2=0.99", "lr=0.1,b2=0.999",
                                              "lr=0.2,b2=0.9", "lr=0.2,b2=0.99", "lr=0.2,b2=0.999"}));
  ASSERT_EQ(spec.arms[1].candidates.size(), 1u);
  EXPECT_EQ(label(spec.arms[1].candidates[0]), "default");
  EXPECT_EQ(spec.rungs[0].keep, 2);
  EXPECT_EQ(spec.rungs[1].keep, 1);
}

// A run ends as diverged on gradients that are not finite, and on losses.
TEST(SweepResultOf, LossesThatAreNotFiniteHaveDivergedToo) {
  const TemporaryFolder folder;
  SweepJob job{.run = {.what = "", .folder = folder.path(), .config = "", .overrides = {}, .origins = {}},
               .config = {},
               .earlier = "",
               .obstacle = ""};
  job.config.train.steps = 10;
  job.config.train.max_skipped = 2;
  const auto result = [&](const char* loss, const char* norm, int skipped) {
    std::string log = "{\"gradient_norm\":1,\"loss\":3,\"ms\":1,\"step\":1,\"tokens\":1}\n";
    for (int i = 2; i < 2 + skipped; i++) {
      log += fmt::format(
          "{{\"gradient_norm\":{},\"loss\":{},\"ms\":1,\"skipped\":true,\"step\":{},\"tokens\":{}}}\n", norm,
          loss, i, i);
    }
    folder.write("metrics.jsonl", log);
    return result_of(job);
  };
  EXPECT_TRUE(result("null", "1", 2));
  EXPECT_TRUE(result("1", "null", 2));
  EXPECT_FALSE(result("null", "1", 1)) << "one is borne";
  EXPECT_FALSE(result("9", "9", 2)) << "skipped as outliers";
}

// A run that has validated its last step may have failed at its last checkpoint.
TEST(SweepResultOf, ARunIsDoneOnlyWithItsLastCheckpoint) {
  const TemporaryFolder folder;
  SweepJob job{.run = {.what = "", .folder = folder.path(), .config = "", .overrides = {}, .origins = {}},
               .config = {},
               .earlier = "",
               .obstacle = ""};
  job.config.train.steps = 2;
  folder.write("metrics.jsonl",
               "{\"gradient_norm\":1,\"loss\":3,\"ms\":1,\"step\":1,\"tokens\":1}\n"
               "{\"gradient_norm\":1,\"loss\":3,\"ms\":1,\"step\":2,\"tokens\":2}\n"
               "{\"step\":2,\"validation_loss\":2.5,\"unigram_entropy\":5}\n");
  EXPECT_FALSE(result_of(job)) << "there is no checkpoint";
  ParameterTable table;
  table.add("w.bias", {5}, ParameterKind::bias);
  const optim::AdamWOptions adamw{.lr = 1e-3, .b1 = 0.9, .b2 = 0.95, .eps = 1e-8, .wd = 0.1};
  tests::BoundRun machine(std::move(table), adamw);
  const auto save = [&](int64_t step) {
    return save_checkpoint(folder.path(), {.step = step, .data = "data", .config_json = "{}"}, machine.table,
                           machine.optimizers);
  };
  save(1);
  EXPECT_FALSE(result_of(job)) << "it is of an earlier step";
  const std::filesystem::path last = save(2);
  ASSERT_TRUE(result_of(job));
  EXPECT_EQ(result_of(job)->loss, 2.5);
  std::filesystem::resize_file(last / "model.safetensors", 10);
  EXPECT_FALSE(result_of(job)) << "it is damaged";
}

TEST(SweepSpec, LaterSettingsWin) {
  const SweepSpec spec = sweep_spec_of(kSweepSpec);
  const SweepRun rung = rung_run(spec, spec.arms[0], spec.arms[0].candidates[4], 1);
  EXPECT_EQ(rung.folder, "runs/s/a/rung2/lr=0.2,b2=0.99");
  EXPECT_EQ(rung.what, "a, rung 2, lr=0.2,b2=0.99");
  EXPECT_EQ(rung.config, "a.json");
  EXPECT_EQ(rung.overrides,
            (std::vector<std::string>{"train.steps=9", "schedule.kind=\"linear\"", "train.clip=2",
                                      "optimizer.lr=0.2", "optimizer.b2=0.99", "train.steps=6",
                                      "output.dir=\"runs/s/a/rung2/lr=0.2,b2=0.99\""}));
  const SweepRun last = final_run(spec, spec.arms[1], spec.arms[1].candidates[0], 8);
  EXPECT_EQ(last.overrides,
            (std::vector<std::string>{"train.steps=9", "schedule.kind=\"linear\"", "train.steps=12",
                                      "output.dir=\"runs/s/b/final/default,seed=8\"", "train.seed=8"}));
}

TEST(SweepSpec, MistakesAreNamed) {
  EXPECT_NE(refusal("{").find("this is not JSON"), std::string::npos);
  EXPECT_NE(refusal("[]").find("expected an object"), std::string::npos);
  EXPECT_NE(refusal(R"({"output": "x", "arm": []})")
                .find("there is no key \"arm\" | did you mean \"arms\"? the keys here are output, set, arms"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"output": "x"})").find("\"arms\" is missing"), std::string::npos);
  const auto with_arm = [](const std::string& arm, const std::string& rest) {
    return refusal(R"({"output": "x", "arms": [)" + arm + "]" + rest + "}");
  };
  const std::string good = R"({"name": "a", "config": "a.json"})", rungs = R"(, "rungs": [{"keep": 1}])";
  EXPECT_EQ(with_arm(good, rungs), "accepted");
  EXPECT_NE(with_arm(good, "").find("there is nothing to run"), std::string::npos);
  EXPECT_NE(with_arm(good + "," + good, rungs).find("two arms are named \"a\""), std::string::npos);
  EXPECT_NE(with_arm(R"({"name": "../a", "config": "a.json"})", rungs).find("cannot be a folder's name"),
            std::string::npos);
  EXPECT_NE(with_arm(R"({"name": "a"})", rungs).find("arms[0]: \"config\" must be there"), std::string::npos);
  EXPECT_NE(with_arm(R"({"name": "a", "config": "a.json", "grid": {"optimizer.lr": 0.1}})", rungs)
                .find("\"optimizer.lr\" in the grid must be a list"),
            std::string::npos);
  EXPECT_NE(with_arm(R"({"name": "a", "config": "a.json", "set": {"output.dir": "y"}})", rungs)
                .find("\"output.dir\" cannot be set here"),
            std::string::npos);
  EXPECT_NE(with_arm(good, R"(, "rungs": [{"keep": 0}])")
                .find("rungs[0]: \"keep\" must be a whole number, at least 1"),
            std::string::npos);
  EXPECT_NE(with_arm(good, R"(, "final": {"seeds": [1, 1]})").find("a seed stands twice"), std::string::npos);
  EXPECT_NE(
      with_arm(good, R"(, "rungs": [{"steps": 3, "set": {"train.steps": 4}}])").find("both say how long"),
      std::string::npos);
  EXPECT_NE(
      with_arm(good, R"(, "rungs": [{"steps": 0}])").find("\"steps\" must be a whole number, at least 1"),
      std::string::npos);
}

TEST(SweepSpec, GridsThatTrainOneRunTwiceAreRefused) {
  const auto with = [](const std::string& grid, const std::string& stages) {
    return refusal(R"({"output": "x", "arms": [{"name": "a", "config": "a.json", "grid": )" + grid + "}], " +
                   stages + "}");
  };
  const std::string rungs = R"("rungs": [{"keep": 1}])";
  const auto refuses = [&](const std::string& words, const std::string& grid, const std::string& stages) {
    const std::string text = with(grid, stages);
    EXPECT_NE(text.find("spec.json: arms[0].grid: " + words), std::string::npos) << text;
  };
  EXPECT_EQ(with(R"({"train.clip": [1, 2]})", rungs), "accepted");
  refuses("\"output.dir\" cannot be set here", R"({"output.dir": ["a"]})", rungs);
  refuses("\"train.seed\" cannot be set here", R"({"train.seed": [1, 2]})", rungs);
  refuses("\"train.steps\" is also set by rungs[1]", R"({"train.steps": [1, 2]})",
          R"("rungs": [{}, {"steps": 9}])");
  refuses("\"train.clip\" is also set by final", R"({"train.clip": [1, 2]})",
          R"("rungs": [{}], "final": {"set": {"train.clip": 3}, "seeds": [1]})");
  refuses("two candidates have the label \"lr=0.1\"", R"({"optimizer.lr": [0.1, 0.10]})", rungs);
  refuses("two candidates have the label \"train=x_y\"", R"({"data.train": ["x/y", "x_y"]})", rungs);
  EXPECT_EQ(with(R"({"data.train": [")" + std::string(194, 'x') + R"("]})", rungs), "accepted");
  refuses("the label \"train=xxx", R"({"data.train": [")" + std::string(195, 'x') + R"("]})", rungs);
  EXPECT_NE(
      refusal(R"({"output": "x", "arms": [{"name": "a", "config": "a.json", "gird": {}}], "rungs": [{}]})")
          .find("arms[0]: there is no key \"gird\" | did you mean \"grid\"?"),
      std::string::npos);
}

SweepCandidate candidate_of(double loss) {
  return {{}, {.loss = loss}, false};
}

TEST(SweepTable, TheBestStayAndDivergedOnesNever) {
  const double infinity = std::numeric_limits<double>::infinity();
  std::vector<SweepCandidate> c{candidate_of(3), candidate_of(infinity), candidate_of(1), candidate_of(2),
                                candidate_of(1)};
  keep_best(c, 2);
  EXPECT_FALSE(c[0].kept);
  EXPECT_TRUE(c[2].kept);
  EXPECT_TRUE(c[4].kept);
  std::vector<SweepCandidate> lost{candidate_of(infinity), candidate_of(std::nan(""))};
  keep_best(lost, 2);
  EXPECT_FALSE(lost[0].kept || lost[1].kept);
}

TEST(SweepTable, TheSurvivorIsTheBestOfTheLastRung) {
  SweepArm arm{"a", "a.json", {}, {{{"k", "1"}}, {{"k", "2"}}}};
  ArmResult result{&arm, {{candidate_of(1), candidate_of(2)}, {candidate_of(5), candidate_of(4)}}, {}, {}};
  result.rungs[1][1].settings = {{"k", "2"}};
  keep_best(result.rungs[1], 2);
  ASSERT_TRUE(survivor(result));
  EXPECT_EQ(label(*survivor(result)), "k=2");
  result.rungs[1].clear();
  EXPECT_FALSE(survivor(result));
}

TEST(SweepTable, MeanAndDeviationOverSeeds) {
  const Spread s = spread({{1, {.loss = 2}}, {2, {.loss = 4}}, {3, {.loss = 9}}});
  EXPECT_DOUBLE_EQ(s.mean, 5);
  EXPECT_DOUBLE_EQ(s.deviation, std::sqrt((9.0 + 1 + 16) / 2));
  EXPECT_EQ(s.least, 2);
  EXPECT_EQ(s.greatest, 9);
  EXPECT_TRUE(std::isnan(spread({{1, {.loss = 2}}}).deviation));
  const Spread lost = spread({{1, {.loss = 2}}, {2, {.loss = std::numeric_limits<double>::infinity()}}});
  EXPECT_TRUE(std::isinf(lost.mean) && std::isinf(lost.greatest));
  EXPECT_TRUE(std::isnan(lost.deviation));
}

TEST(SweepTable, TextPageAndJson) {
  const double infinity = std::numeric_limits<double>::infinity();
  SweepArm arm{"a", "a.json", {}, {}};
  ArmResult result{&arm, {{}}, {{"optimizer.lr", "0.1"}}, {}};
  result.rungs[0] = {{{{"optimizer.lr", "0.1"}}, {.loss = 3.5, .ms = 12.25, .steps = 20, .from = 10}, true},
                     {{{"optimizer.lr", "9"}}, {.loss = infinity}, false},
                     {{{"optimizer.lr", "8"}}, {}, false}};
  result.finals = {{7, {.loss = 2, .ms = 10, .optimizer_share = 0.25, .steps = 30}},
                   {8, {.loss = 4, .ms = 11}}};
  const SweepTable table{{result}};
  EXPECT_EQ(
      text(table),
      "arm  chosen  steps  seeds  validation loss, mean  sd      each            ms/step  optimizer's share\n"
      "a    lr=0.1  0      2      3.0000                 1.4142  2.0000, 4.0000  11.0     -\n"
      "\n"
      "arm  rung  candidate  steps  from step  validation loss  stays  ms/step\n"
      "a    1     lr=0.1     20     10         3.5000           yes    12.2\n"
      "a    1     lr=9       -      0          diverged                -\n"
      "a    1     lr=8       -      0          -                       -\n");
  EXPECT_NE(markdown(table).find(
                "| arm | rung | candidate | steps | from step | validation loss | stays | ms/step |\n"
                "|---|---|---|---|---|---|---|---|\n"
                "| a | 1 | lr=0.1 | 20 | 10 | 3.5000 | yes | 12.2 |\n"),
            std::string::npos)
      << markdown(table);
  const std::string json = to_json(table);
  for (const char* words : {"\"mean\": 3.0", "\"min\": 2.0", "\"state\": \"diverged\"",
                            "\"state\": \"not run\"", "\"optimizer_share\": 0.25", "\"from_step\": 10"}) {
    EXPECT_NE(json.find(words), std::string::npos) << words << "\n" << json;
  }
}

TEST(SweepTable, AGridNeedsRungs) {
  SweepSpec spec;
  SweepArm arm{"a", "a.json", {}, {{{"k", "1"}}, {{"k", "2"}}}};
  spec.arms.push_back(arm);
  spec.seeds = {1};
  EXPECT_THROW(empty_table(spec), Error);
}

TEST(SweepProgress, AnArmOfUnknownSpeedTakesTheMean) {
  EXPECT_LT(seconds_left({2, {10, 10}}, {0, 0}), 0);
  EXPECT_DOUBLE_EQ(seconds_left({2, {10, 100, 1}}, {2, 0, 4}), 10 * 2 + 100 * 3 + 4);
}

TEST(SweepProgress, TheLastWholeStepLineCounts) {
  EXPECT_EQ(last_step_line("").step, 0);
  EXPECT_EQ(last_step_line("step      7/30 | loss 3.5").step, 0) << "it has no end yet";
  const LoggedLine line = last_step_line(
      "0 | loss 9.0 | lr\nstep      7/30 | loss 3.5000 | lr 1\nvalidation step 8/30\nstep      8/30 | lo");
  EXPECT_EQ(line.step, 7);
  EXPECT_EQ(line.loss, 3.5);
}

}  // namespace
}  // namespace kiln::train
