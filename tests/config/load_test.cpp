#include "src/config/load.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "src/config/relations.h"
#include "src/config/schema.h"
#include "src/core/error.h"
#include "tests/config/valid.h"
#include "tests/paths.h"

namespace kiln::config {
namespace {

namespace fs = std::filesystem;

// A folder that is gone after the test; the test runs inside of it, so that messages hold short paths.
class Load : public ::testing::Test {
 protected:
  void SetUp() override {
    before_ = fs::current_path();
    folder_ = fs::temp_directory_path() / ("kiln-config-" + std::to_string(::getpid()));
    fs::create_directories(folder_);
    fs::current_path(folder_);
  }
  void TearDown() override {
    fs::current_path(before_);
    fs::remove_all(folder_);
  }
  static void write(const fs::path& path, const std::string& text) {
    if (path.has_parent_path()) fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }

 private:
  fs::path before_, folder_;
};

#define EXPECT_REFUSED(expression, message) \
  try {                                     \
    expression;                             \
    ADD_FAILURE() << "accepted";            \
  } catch (const Error& e) {                \
    EXPECT_STREQ(e.what(), message);        \
    EXPECT_EQ(e.code(), ExitCode::usage);   \
    EXPECT_FALSE(e.hint().empty());         \
  }

TEST_F(Load, ReadsAndResolves) {
  write("small/first.json", kValid);
  const Config config = load("small/first.json");
  EXPECT_EQ(config.model.family, "gpt2");
  EXPECT_EQ(config.model.ffn, 256);
  EXPECT_EQ(config.model.vocab_multiple, 128);
  EXPECT_EQ(config.train.sequence, 32);
  EXPECT_EQ(config.train.tokens_per_step, 128);
  EXPECT_EQ(config.train.seed, 42u);
  EXPECT_EQ(config.optimizer.lr, 0.001);
  EXPECT_EQ(config.optimizer.b2, 0.95);
  EXPECT_EQ(config.schedule.kind, "cosine");
  EXPECT_EQ(config.output.dir, "runs/small-first");
  EXPECT_EQ(config.device.kind, "cpu");
}

TEST_F(Load, NamesTheRunFolderAfterTheFile) {
  EXPECT_EQ(parse(kValid, "x.json").output.dir, "runs/x");
  EXPECT_EQ(parse(kValid, "./x.json").output.dir, "runs/x");
  EXPECT_EQ(parse(kValid, "../x.json").output.dir, "runs/x");
  EXPECT_EQ(parse(kValid, "/a/b/../c/x.y.json").output.dir, "runs/c-x.y");
  EXPECT_EQ(parse(kValid, "").output.dir, "runs/config");
  EXPECT_EQ(parse(kValid, "caf\xe9.json").output.dir, "runs/caf_");
  EXPECT_EQ(parse(kValid, "x.json", {"output.dir=there"}).output.dir, "there");
}

TEST_F(Load, NotesAreIgnored) {
  const std::string text = R"({ "notes": { "why": ["not", { "so": null }] }, "model": { "notes": "small", )" +
                           kValid.substr(kValid.find("\"family\""));
  EXPECT_EQ(parse(text, "x.json"), parse(kValid, "x.json"));
}

TEST_F(Load, ByteOrderMarkIsIgnored) {
  EXPECT_EQ(parse("\xef\xbb\xbf" + kValid, "x.json"), parse(kValid, "x.json"));
}

TEST_F(Load, ExactIntegersMayHaveExponents) {
  for (const char* steps : {"1000", "1e3", "1000.0", "0.01e5", "10000e-1"}) {
    EXPECT_EQ(parse(kValid, "x.json", {std::string("train.steps=") + steps}).train.steps, 1000);
  }
  EXPECT_EQ(parse(kValid, "x.json", {"train.seed=9007199254740991"}).train.seed, 9007199254740991u);
  EXPECT_EQ(parse(kValid, "x.json", {"optimizer.lr=1"}).optimizer.lr, 1.0);
}

TEST_F(Load, OverridesApplyInOrder) {
  const Config config = parse(kValid, "x.json", {"optimizer.lr=0.1", "train.steps=7", "optimizer.lr=0.2"});
  EXPECT_EQ(config.optimizer.lr, 0.2);
  EXPECT_EQ(config.train.steps, 7);
}

TEST_F(Load, OverridesOfTextNeedNoQuotes) {
  const auto prompt = [](const std::string& value) {
    return parse(kValid, "x.json", {"sampling.prompt=" + value}).sampling.prompt;
  };
  EXPECT_EQ(prompt("Once upon a time"), "Once upon a time");
  EXPECT_EQ(prompt("1984"), "1984");
  EXPECT_EQ(prompt("true"), "true");
  EXPECT_EQ(prompt("a=b"), "a=b");
  EXPECT_EQ(prompt(""), "");
  EXPECT_EQ(prompt("\"line\\nbreak\""), "line\nbreak");
}

TEST_F(Load, ExtendsMergesKeyByKey) {
  write("base/deep.json", kValid);
  write("base/middle.json", R"({ "extends": "deep.json", "optimizer": { "lr": 0.5, "wd": 0.2 } })");
  write("top/x.json", R"({ "optimizer": { "wd": 0.3 }, "extends": "../base/middle.json" })");
  const Config config = load("top/x.json", {"train.steps=9"});
  EXPECT_EQ(config.model.width, 64);
  EXPECT_EQ(config.optimizer.lr, 0.5);
  EXPECT_EQ(config.optimizer.wd, 0.3);
  EXPECT_EQ(config.train.steps, 9);
  EXPECT_EQ(config.output.dir, "runs/top-x");
}

TEST_F(Load, MistakesInABaseAreToldThere) {
  write("base.json", "{\n  \"train\": { \"stpes\": 1 }\n}");
  write("x.json", R"({ "extends": "base.json" })");
  EXPECT_REFUSED(load("x.json"), "base.json:2:14: unknown key \"stpes\" in \"train\"");
  write("base.json", "{\n  \"train\": { \"steps\": 1, }\n}");
  EXPECT_REFUSED(load("x.json"), "base.json:2:24: expected another entry after ',', found '}'");
  // Also where the extending file gives a good value.
  write("base.json", R"({ "train": { "steps": -1 } })");
  write("x.json", R"({ "extends": "base.json", "train": { "steps": 1 } })");
  EXPECT_REFUSED(load("x.json"), "base.json:1:23: train.steps: -1 is outside of 0 <= steps <= 100000000");
}

TEST_F(Load, RelationsNameTheFileThatBrokeThem) {
  write("base.json", kValid);
  write("x.json", "{\n  \"extends\": \"base.json\",\n  \"model\": { \"heads\": 7 }\n}");
  EXPECT_REFUSED(load("x.json"),
                 "x.json:3:23: model.width = 64 is not a multiple of model.heads = 7: 64 = 9 * 7 + 1");
}

TEST_F(Load, CirclesAreRefused) {
  write("a/one.json", R"({ "extends": "../b/two.json" })");
  write("b/two.json", R"({ "extends": "../b/./three.json" })");
  write("b/three.json", "{\n  \"extends\": \"../a/../a/one.json\"\n}");
  EXPECT_REFUSED(
      load("a/one.json"),
      "b/three.json:2:14: extends: a circle: a/one.json -> b/two.json -> b/three.json -> a/one.json");
  write("self.json", R"({ "extends": "self.json" })");
  EXPECT_REFUSED(load("self.json"), "self.json:1:14: extends: a circle: self.json -> self.json");
  fs::create_symlink("self.json", "alias.json");
  EXPECT_REFUSED(load("alias.json"), "alias.json:1:14: extends: a circle: alias.json -> self.json");
}

TEST_F(Load, ExtendsMustNameAFile) {
  const auto text = [](const std::string& value) { return "{\n  \"extends\": " + value + "\n}"; };
  EXPECT_REFUSED(parse(text("3"), "x.json"), "x.json:2:14: extends: expected text");
  EXPECT_REFUSED(parse(text("\"\""), "x.json"), "x.json:2:14: extends: is empty");
  EXPECT_REFUSED(parse(text("\"a\\u0000b\""), "x.json"),
                 "x.json:2:14: extends: a path may not hold control characters");
  EXPECT_REFUSED(parse(text("\"no.json\""), "there/x.json"),
                 "there/x.json:2:14: extends: cannot open there/no.json: No such file or directory");
  EXPECT_REFUSED(parse(text("\".\""), "x.json"), "x.json:2:14: extends: . is a folder, not a config");
  EXPECT_REFUSED(
      parse(text("\"" + std::string(300, 'a') + "\""), "x.json"),
      ("x.json:2:14: extends: cannot open " + std::string(300, 'a') + ": File name too long").c_str());
}

TEST_F(Load, SwitchesAreOnOrOffTrueOrFalse) {
  const auto overfit = [](const std::string& value) {
    return parse(kValid, "x.json", {"train.overfit_one_batch=" + value}).train.overfit_one_batch;
  };
  EXPECT_EQ(parse(kValid, "x.json").train.overfit_one_batch, "off");
  for (const char* value : {"on", "true", "\"on\""}) EXPECT_EQ(overfit(value), "on") << value;
  for (const char* value : {"off", "false", "\"off\""}) EXPECT_EQ(overfit(value), "off") << value;
  std::string text = kValid;
  text.insert(text.find("\"steps\""), "\"overfit_one_batch\": true, ");
  EXPECT_EQ(parse(text, "x.json").train.overfit_one_batch, "on");
}

// kValid: 4 x 32 = 128 tokens a step, 4 sequences.
TEST_F(Load, LengthInTokens) {
  for (const auto& [tokens, steps] :
       {std::pair{1, 1}, {127, 1}, {128, 1}, {129, 2}, {1280, 10}, {1281, 11}}) {
    const Config config = parse(kValid, "x.json", {"train.steps=0", fmt::format("train.tokens={}", tokens)});
    EXPECT_EQ(config.train.steps, steps) << tokens;
    EXPECT_EQ(steps_of(config, 1), steps);
    EXPECT_EQ(parse(to_json(config), "x.json"), config) << "the steps and the tokens agree";
  }
  EXPECT_EQ(steps_of(parse(kValid, "x.json"), 1), 100);
}

TEST_F(Load, LengthInEpochs) {
  struct Case {
    const char* epochs;
    int64_t sequences, steps;
  };
  for (const Case& c : {Case{"1", 8, 2},
                        {"1", 9, 3},
                        {"1", 12, 3},
                        {"2", 9, 5},
                        {"0.5", 9, 2},
                        {"0.1", 120, 3},
                        {"0.7", 40, 7},
                        {"0.001", 8, 1},
                        {"3", 1, 1},
                        {"1e6", 100, 25'000'000}}) {
    const Config config =
        parse(kValid, "x.json", {"train.steps=0", fmt::format("train.epochs={}", c.epochs)});
    EXPECT_EQ(config.train.steps, 0) << "only the data tell";
    EXPECT_EQ(steps_of(config, c.sequences), c.steps) << c.epochs << " of " << c.sequences;
    EXPECT_EQ(parse(to_json(config), "x.json"), config);
  }
  const Config config = parse(kValid, "x.json", {"train.steps=0", "train.epochs=2", "schedule.warmup=5"});
  EXPECT_EQ(steps_of(config, 10), 5);
  EXPECT_REFUSED(steps_of(config, 8), "train.epochs: schedule.warmup = 5 is more than train.steps = 4");
  EXPECT_REFUSED(steps_of(config, 1'000'000'000),
                 "train.epochs: 2 of 1000000000 sequences are 500000000 steps, more than 100000000");
}

TEST_F(Load, TheFileMustBeThere) {
  EXPECT_REFUSED(load("no.json"), "cannot open no.json: No such file or directory");
  EXPECT_REFUSED(load("."), ". is a folder, not a config");
  write("large.json", std::string(2'000'000, ' '));
  EXPECT_REFUSED(load("large.json"), "large.json: this file has 2000000 bytes, a config at most 1048576");
  EXPECT_REFUSED(load("/dev/zero"), "/dev/zero: there is no end of it within the 1048576 bytes of a config");
}

TEST_F(Load, ResolvedConfigLoadsToItself) {
  const std::vector<std::vector<std::string>> cases = {
      {},
      {"optimizer.lr=0.1", "optimizer.eps=1e-30", "optimizer.b1=0.30000000000000004",
       "train.clip=0.3333333333333333"},
      {"train.seed=9007199254740991", "model.ffn=1", "train.tokens_per_step=1280", "train.sequence=1"},
      {"sampling.prompt=\"quote \\\" tab \\t caf\\u00e9 \\u0000 \\ud83d\\ude00\"", "output.dir=a b/c",
       "data.validation="},
  };
  for (const auto& overrides : cases) {
    const Config config = parse(kValid, "x/y.json", overrides);
    const std::string text = to_json(config);
    EXPECT_EQ(parse(text, "elsewhere/config.json"), config) << text;
    EXPECT_EQ(to_json(parse(text, "elsewhere/config.json")), text);
  }
}

TEST_F(Load, ResolvedConfigHasEveryKeyInTheOrderOfTheSchema) {
  const auto json = nlohmann::ordered_json::parse(to_json(parse(kValid, "x.json")));
  std::vector<std::string> names;
  for (const auto& [section, keys] : json.items()) {
    for (const auto& [leaf, value] : keys.items()) names.push_back(section + "." + leaf);
  }
  std::vector<std::string> expected;
  for (const Key& key : schema()) expected.push_back(key.name);
  EXPECT_EQ(names, expected);
}

TEST(Families, BringTheirOwnDefaults) {
  const Model gpt2 = parse(kValid, "configs/x.json").model;
  EXPECT_EQ(gpt2, (Model{"gpt2", 2, 64, 4, 256, 257, 128, 32, 4, "on", 1e-5, 10000}));
  const Model llama = parse(kValid, "configs/x.json", {"model.family=llama"}).model;
  EXPECT_EQ(llama,
            (Model{"llama", 2, 64, 4, 256, 257, 128, 32, 4, "off", 1e-6, 10000}));  // 8/3 of 64 are 171
  const Model other = parse(kValid, "configs/x.json",
                            {"model.family=llama", "model.width=768", "model.heads=12", "model.kv_heads=3",
                             "model.tied=on", "model.norm_eps=1e-5", "model.rope_theta=5e5"})
                          .model;
  EXPECT_EQ(other, (Model{"llama", 2, 768, 12, 2048, 257, 128, 32, 3, "on", 1e-5, 5e5}));
}

TEST(Overrides, AnotherOptimizerComesWithItsOwnRates) {
  const std::string named = R"({ "lr": 0.01, "name": "muon" })";
  const auto with = [](const std::vector<std::string>& overrides, const std::string& optimizer) {
    std::string text = kValid;
    const std::string old = R"({ "lr": 0.001 })";
    text.replace(text.find(old), old.size(), optimizer);
    return parse(text, "configs/x.json", overrides);
  };
  EXPECT_THROW(with({"optimizer.name=adamw"}, named), Error);
  EXPECT_THROW(with({"optimizer.lr=0.02", "optimizer.name=adamw"}, R"({ "name": "muon", "b1": 0.8 })"),
               Error);
  EXPECT_EQ(with({"optimizer.name=adamw", "optimizer.lr=0.02"}, named).optimizer.lr, 0.02);
  EXPECT_EQ(with({"optimizer.lr=0.02", "optimizer.name=adamw"}, named).optimizer.lr, 0.02);
  EXPECT_EQ(with({"optimizer.name=muon"}, named).optimizer.lr, 0.01);  // the same: nothing changes
  EXPECT_EQ(with({"optimizer.name=muon"}, R"({ "lr": 0.03 })").optimizer.lr, 0.03);  // chosen for no other
}

TEST(Presets, LoadAndComeBack) {
  int count = 0;
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(paths::source()) / "configs")) {
    if (!entry.is_regular_file()) continue;
    EXPECT_EQ(entry.path().extension(), ".json");
    SCOPED_TRACE(entry.path().filename().string());
    const Config config = load(entry.path());
    EXPECT_EQ(parse(to_json(config), "config.json"), config);
    const auto json = nlohmann::json::parse(std::ifstream(entry.path()));
    EXPECT_TRUE(json.contains("notes")) << "a preset says where its values come from";
    count++;
  }
  EXPECT_GE(count, 4);
}

TEST(Presets, HaveTheSizesOfTheirNames) {
  const Config mini = load(fs::path(paths::source()) / "configs/gpt2-mini/adamw.json");
  EXPECT_EQ(mini.output.dir, "runs/gpt2-mini-adamw");
  EXPECT_EQ(mini.data.tokenizer, "cache/corpus/tokenizer.json");
  EXPECT_EQ(mini.model.vocab, 8192);
  const Config gpt2 = load(fs::path(paths::source()) / "configs/gpt2-124m/adamw.json");
  EXPECT_EQ(gpt2.model, (Model{"gpt2", 12, 768, 12, 3072, 50257, 128, 1024, 12, "on", 1e-5, 10000}));
  EXPECT_EQ(gpt2.train.tokens_per_step, 524288);
  EXPECT_EQ(gpt2.train.steps, 18865);
  EXPECT_EQ(gpt2.schedule.warmup, 700);
  EXPECT_EQ(gpt2.schedule.final, 0.0);
  EXPECT_EQ(gpt2.optimizer.lr, 6e-4);
}

}  // namespace
}  // namespace kiln::config
