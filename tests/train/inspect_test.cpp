#include "src/train/inspect.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "src/config/load.h"
#include "src/core/file.h"
#include "src/train/run_lock.h"
#include "src/train/trained_model.h"
#include "tests/core/temporary_folder.h"
#include "tests/optim/support.h"
#include "tests/paths.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;
using kiln::testing::error_message;
using kiln::testing::TemporaryFolder;
using nlohmann::json;

constexpr optim::AdamWOptions kOptions{.lr = 1e-3, .b1 = 0.9, .b2 = 0.95, .eps = 1e-8, .wd = 0.1};
constexpr float kInfinity = std::numeric_limits<float>::infinity();

ParameterTable two_parameters() {
  ParameterTable table;
  table.add("w.weight", {2, 3}, ParameterKind::matrix);
  table.add("w.bias", {5}, ParameterKind::bias);
  return table;
}

class Inspect : public ::testing::Test {
 protected:
  Inspect() : machine_(two_parameters(), kOptions) {
    config_ = config::load(paths::source() + "/configs/gpt2-mini/adamw.json",
                           {"train.steps=9", "schedule.warmup=0", "output.dir=x"});
    folder_.write("config.json", config::to_json(config_));
    folder_.write("metrics.jsonl",
                  "{\"gradient_norm\":1,\"loss\":4,\"lr\":0.1,\"ms\":500,\"step\":1,\"tokens\":512}\n"
                  "{\"step\":1,\"unigram_entropy\":6,\"validation_loss\":3.5}\n"
                  "{\"gradient_norm\":1,\"loss\":3,\"lr\":0.1,\"ms\":1500,\"step\":2,\"tokens\":1024}\n"
                  "{\"step\":2,\"unigram_entropy\":6,\"validation_loss\":3.75}\n");
  }
  fs::path save(int64_t step, int64_t run_steps = 0) {
    return save_checkpoint(folder_.path(),
                           {.step = step,
                            .optimizer_t = step,
                            .samples = 4 * step,
                            .data = "5 tokens",
                            .config_json = config::to_json(config_),
                            .run_steps = run_steps},
                           machine_.table, machine_.optimizers);
  }
  void flip(const fs::path& path, int64_t at) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    const char c = static_cast<char>(file.get() ^ 1);
    file.seekp(at);
    file.put(c);
  }
  InspectedRun run(const InspectOptions& options = {}) { return inspect_run(folder_.path(), options); }

  TemporaryFolder folder_;
  tests::BoundRun machine_;
  config::Config config_;
};

TEST_F(Inspect, ARunThatIsWhole) {
  save(1);
  save(2);
  const InspectedRun found = run({.verify = true});
  EXPECT_TRUE(found.problems.empty()) << found.problems.front();
  ASSERT_EQ(found.checkpoints.size(), 2u);
  EXPECT_EQ(found.checkpoints[0].step, 2);
  EXPECT_GT(found.checkpoints[0].bytes, 11 * 3 * 4);
  EXPECT_FALSE(found.process);
  // 8192 x 128 + 256 x 128 + 4 (12 x 128^2 + 13 x 128) + 2 x 128
  EXPECT_EQ(found.parameters, 8192 * 128 + 256 * 128 + 4 * (12 * 128 * 128 + 13 * 128) + 2 * 128);
  const json out = json::parse(json_of(found, {}));
  EXPECT_EQ(out["step"], 2);
  EXPECT_EQ(out["seconds"], 2.0);
  EXPECT_EQ(out["median_ms"], 1000.0);
  EXPECT_EQ(out["tokens_per_second"], 512.0);
  EXPECT_EQ(out["validation"]["loss"], 3.75);
  EXPECT_EQ(out["best_validation"]["loss"], 3.5);
  EXPECT_EQ(out["config"]["optimizer"]["name"], "adamw");
  const std::string text = text_of(found, {});
  for (const char* words : {"step 2 of 9 (22.2 %)", "no process is training", "3.5000 at step 1", "adamw"}) {
    EXPECT_NE(text.find(words), std::string::npos) << words << "\n" << text;
  }
}

// Where train.epochs decides, config.json holds no number of steps.
TEST_F(Inspect, ARunOfEpochsSaysHowFarItIs) {
  config_.train.steps = 0;
  config_.train.epochs = 2;
  folder_.write("config.json", config::to_json(config_));
  EXPECT_EQ(text_of(run(), {}).find("step 2 of"), std::string::npos);
  EXPECT_TRUE(json::parse(json_of(run(), {}))["run_steps"].is_null());
  folder_.write("metrics.jsonl", "{\"ceiling_gflops\":90,\"run_steps\":8,\"step\":0}\n" +
                                     read_file(folder_ / "metrics.jsonl"));
  const InspectedRun found = run();
  EXPECT_TRUE(found.problems.empty());
  EXPECT_NE(text_of(found, {}).find("step 2 of 8 (25.0 %)"), std::string::npos) << text_of(found, {});
  EXPECT_EQ(json::parse(json_of(found, {}))["run_steps"], 8);
  const InspectedCheckpoint checkpoint = inspect_checkpoint(save(2, 8), {});
  EXPECT_NE(text_of(checkpoint, {}).find("step 2 of 8,"), std::string::npos) << text_of(checkpoint, {});
  EXPECT_EQ(json::parse(json_of(checkpoint, {}))["run_steps"], 8);
}

// What an optimizer asks of a device is no damage where only numbers are counted.
TEST_F(Inspect, CountsParametersOfRunsThatThisMachineCannotTrain) {
  for (const char* precision : {"bf16", "f32"}) {
    const auto config = config::load(paths::source() + "/configs/gpt2-mini/muon.json",
                                     {fmt::format("optimizer.ns_precision={}", precision)});
    folder_.write("config.json", config::to_json(config));
    const InspectedRun found = run();
    EXPECT_EQ(fmt::format("{}", fmt::join(found.problems, "\n")), "") << precision;
    EXPECT_GT(found.parameters, 8192 * 128) << precision;
  }
}

// The config in a checkpoint is text from outside: it leads to no other file.
TEST_F(Inspect, TheConfigOfACheckpointExtendsNothing) {
  const std::string whole = config::to_json(config_);
  folder_.write("base.json", whole);
  const fs::path path = save_checkpoint(
      folder_.path(),
      {.step = 3,
       .data = "5 tokens",
       .config_json = fmt::format("{{\"extends\": \"{}\"}}", (folder_ / "base.json").string())},
      machine_.table, machine_.optimizers);
  EXPECT_FALSE(inspect_checkpoint(path, {}).config);
  try {
    find_model({.path = path, .overrides = {}});
    FAIL() << "a file outside of the checkpoint was read";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("extends"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("whole by itself"), std::string::npos) << e.what();
  }
  const fs::path sound = save(4);
  EXPECT_TRUE(inspect_checkpoint(sound, {}).config);
  EXPECT_EQ(find_model({.path = sound, .overrides = {}}).config, config_);
}

// A model that is only used does not need it; that training cannot go on is said all the same. Its size is looked at, not
// its gigabytes of content, which kiln inspect --verify reads.
TEST_F(Inspect, MissingOptimizerStateIsToldOfWhenAModelIsUsed) {
  const auto told = [&](const fs::path& path) {
    ::testing::internal::CaptureStderr();
    find_model({.path = path, .overrides = {}});
    return ::testing::internal::GetCapturedStderr();
  };
  const fs::path whole = save(1), shorter = save(2), missing = save(3);
  fs::resize_file(shorter / "optimizer.safetensors", fs::file_size(shorter / "optimizer.safetensors") - 3);
  fs::remove(missing / "optimizer.safetensors");
  EXPECT_EQ(told(whole), "");
  EXPECT_NE(told(shorter).find("optimizer.safetensors"), std::string::npos);
  EXPECT_NE(told(folder_.path()).find("optimizer.safetensors"), std::string::npos) << "the newest";
  const std::string line = told(missing);
  EXPECT_NE(line.find("no training can go on"), std::string::npos) << line;
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1) << line;
}

TEST_F(Inspect, SeesWhoTrains) {
  const RunLock lock(folder_.path());
  // flock belongs to the open file: another open file of this process is refused like another process.
  EXPECT_EQ(run().process, std::to_string(getpid()));
}

TEST_F(Inspect, LookingKeepsNobodyFromTraining) {
  for (int i = 0; i < 100; i++) {
    EXPECT_FALSE(process_training_in(folder_.path()));
    const RunLock lock(folder_.path());
  }
}

TEST_F(Inspect, DamagedCheckpoints) {
  const fs::path cut = save(1), flipped = save(2), unsealed = save(3), whole = save(4);
  fs::resize_file(cut / "optimizer.safetensors", 100);
  flip(flipped / "model.safetensors", static_cast<int64_t>(fs::file_size(flipped / "model.safetensors")) - 3);
  flip(unsealed / "manifest.json", 20);
  const InspectedRun quick = run();
  ASSERT_EQ(quick.problems.size(), 2u) << "sizes and manifests only";
  EXPECT_NE(quick.problems[0].find("step 3"), std::string::npos) << quick.problems[0];
  EXPECT_NE(quick.problems[1].find("step 1"), std::string::npos) << quick.problems[1];
  EXPECT_NE(quick.problems[1].find("the manifest says"), std::string::npos) << quick.problems[1];
  const InspectedRun thorough = run({.verify = true});
  ASSERT_EQ(thorough.problems.size(), 3u);
  EXPECT_NE(thorough.problems[1].find("model.safetensors: its checksum is"), std::string::npos)
      << thorough.problems[1];
  EXPECT_TRUE(thorough.checkpoints[0].problem.empty());

  EXPECT_TRUE(inspect_checkpoint(flipped, {}).problems.empty());
  EXPECT_EQ(inspect_checkpoint(flipped, {.verify = true}).problems.size(), 1u);
  const InspectedCheckpoint short_file = inspect_checkpoint(cut, {});
  EXPECT_EQ(short_file.parameters.size(), 2u) << "what is whole is told";
  EXPECT_TRUE(short_file.optimizer.empty());
  EXPECT_FALSE(short_file.problems.empty());
  error_message(ExitCode::data, [&] { inspect_checkpoint(unsealed, {}); });
}

TEST_F(Inspect, DamagedLogAndConfig) {
  folder_.write("metrics.jsonl",
                "{\"step\":1,\"loss\":4,\"ms\":1,\"tokens\":5}\nrubbish\n{\"step\":2,\"loss\":4");
  folder_.write("config.json", "{");
  const InspectedRun found = run();
  ASSERT_EQ(found.problems.size(), 2u);
  EXPECT_NE(found.problems[0].find("config.json:1:2"), std::string::npos) << found.problems[0];
  EXPECT_NE(found.problems[1].find("the first is line 2"), std::string::npos) << found.problems[1];
  EXPECT_TRUE(found.log.torn) << "a torn last line is none";
  EXPECT_TRUE(json::accept(json_of(found, {})));
}

TEST_F(Inspect, ACheckpoint) {
  const std::vector<float> weight = {3, -4, 0, 0, kInfinity, std::nanf("")};
  std::memcpy(machine_.table[0].master, weight.data(), 6 * sizeof(float));
  const fs::path path = save(7);
  EXPECT_TRUE(is_checkpoint(path));
  EXPECT_TRUE(is_checkpoint(path.string() + "/"));
  EXPECT_FALSE(is_checkpoint(folder_.path()));
  const InspectedCheckpoint found = inspect_checkpoint(path, {.verify = true, .stats = true});
  EXPECT_TRUE(found.problems.empty());
  EXPECT_EQ(found.state.step, 7);
  ASSERT_EQ(found.parameters.size(), 2u);
  EXPECT_EQ(found.parameters[0].name, "w.weight");
  EXPECT_EQ(found.parameters[0].shape, (Shape{2, 3}));
  EXPECT_EQ(found.parameters[0].stats->rms, 2.5) << "sqrt((9 + 16) / 4)";
  EXPECT_EQ(found.parameters[0].stats->abs_max, 4);
  EXPECT_EQ(found.parameters[0].stats->non_finite, 2);
  ASSERT_EQ(found.kinds.size(), 2u);  // AdamW's m and v, of 11 numbers each
  EXPECT_EQ(found.kinds[0].name, "m");
  EXPECT_EQ(found.kinds[0].tensors, 2);
  EXPECT_EQ(found.kinds[0].elements, 11);
  EXPECT_EQ(found.kinds[0].bytes, 44);
  const std::string text = text_of(found, {.verify = true, .stats = true});
  for (const char* words :
       {"step 7 of 9", "verified", "w.weight", "2 numbers in the tensors are not finite"}) {
    EXPECT_NE(text.find(words), std::string::npos) << words << "\n" << text;
  }
  const json out = json::parse(json_of(found, {}));
  EXPECT_EQ(out["parameters"][0]["rms"], 2.5);
  EXPECT_EQ(out["optimizer_kinds"][1]["name"], "v");
  EXPECT_EQ(json::parse(json_of(inspect_checkpoint(path, {}), {}))["parameters"][0].contains("rms"), false);
}

TEST(StatsOf, EdgeCases) {
  EXPECT_FALSE(stats_of("I32", {}));
  const auto none = stats_of("F32", {});
  EXPECT_TRUE(std::isnan(none->rms));
  const float nan = std::nanf("");
  const auto all_nan = stats_of("F32", std::as_bytes(std::span(&nan, 1)));
  EXPECT_TRUE(std::isnan(all_nan->abs_max));
  EXPECT_EQ(all_nan->non_finite, 1);
  const std::vector<float> large = {3e38f, -3e38f};
  EXPECT_NEAR(stats_of("F32", std::as_bytes(std::span(large)))->rms, 3e38, 3e31) << "squares beyond fp32";
}

TEST_F(Inspect, NeitherRunNorCheckpoint) {
  fs::create_directory(folder_ / "empty");
  EXPECT_NE(error_message(ExitCode::data, [&] { is_checkpoint(folder_ / "empty"); }).find("neither"),
            std::string::npos);
  EXPECT_NE(error_message(ExitCode::data, [&] { is_checkpoint(folder_ / "nothing"); }).find("not there"),
            std::string::npos);
  EXPECT_NE(
      error_message(ExitCode::data, [&] { is_checkpoint(folder_ / "config.json"); }).find("not a folder"),
      std::string::npos);
}

}  // namespace
}  // namespace kiln::train
