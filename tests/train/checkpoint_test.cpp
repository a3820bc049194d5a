#include "src/train/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "src/core/checksum.h"
#include "src/core/error.h"
#include "src/core/file.h"
#include "src/core/safetensors.h"
#include "tests/optim/support.h"

namespace kiln::tests {
namespace {

namespace fs = std::filesystem;
using namespace train;
using nlohmann::json;

constexpr optim::AdamWOptions kOptions{.lr = 1e-3, .b1 = 0.9, .b2 = 0.95, .eps = 1e-8, .wd = 0.1};

// Every bit pattern may occur in a checkpoint: NaNs with payload, denormals, minus zero.
void scramble(float* x, int64_t n, uint64_t seed, uint64_t stream) {
  const Random random(seed, stream);
  for (int64_t i = 0; i < n; i++) {
    const uint32_t bits = random.block(static_cast<uint64_t>(i))[0];
    std::memcpy(x + i, &bits, 4);
  }
}

void scramble(BoundRun& run, uint64_t seed) {
  uint64_t stream = 0;
  for (const Parameter& p : run.table.all()) scramble(p.master, p.elements(), seed, stream++);
  for (const auto& s : run.optimizers.state_tensors()) scramble(s.data, s.rows * s.cols, seed, stream++);
}

// All numbers of a run, as bytes.
std::string bytes_of(const BoundRun& run) {
  std::string bytes;
  const auto add = [&](const float* x, int64_t n) {
    bytes.append(reinterpret_cast<const char*>(x), static_cast<size_t>(n) * sizeof(float));
  };
  for (const Parameter& p : run.table.all()) add(p.master, p.elements());
  for (const auto& s : run.optimizers.state_tensors()) add(s.data, s.rows * s.cols);
  return bytes;
}

// A manifest whose checksum is right, whatever else it says.
void write_sealed(const fs::path& folder, json manifest) {
  if (manifest.is_object()) {
    manifest.erase("xxh3");
    manifest["xxh3"] = text_checksum(manifest.dump());
  }
  std::ofstream(folder / "manifest.json") << manifest;
}

CheckpointState state_of(int64_t step) {
  return {.step = step,
          .optimizer_t = step - 1,
          .samples = 7 * step,
          .data = "5 tokens",
          .config_json = "{\"a\": \"b\\n\"}",
          .losses = {1.0 / 3, 5e-324, 1e300, -0.1, 7},
          .gradient_norms = step % 2 == 0 ? std::vector<double>{} : std::vector<double>{0.1 + 0.2}};
}

class Checkpoint : public ::testing::Test {
 protected:
  void SetUp() override {
    run_ = fs::path(::testing::TempDir()) /
           fmt::format("checkpoint_{}_{}", ::testing::UnitTest::GetInstance()->current_test_info()->name(),
                       getpid());
    fs::remove_all(run_);
    fs::create_directories(run_);
  }
  void TearDown() override { fs::remove_all(run_); }

  // Saves numbers drawn by the step.
  fs::path save(int64_t step) {
    scramble(machine_, static_cast<uint64_t>(step));
    return save_checkpoint(run_, state_of(step), machine_.table, machine_.optimizers);
  }

  std::optional<fs::path> find() {
    warnings_.clear();
    return find_latest_checkpoint(run_, [&](const std::string& text) { warnings_.push_back(text); });
  }

  // The newest checkpoint is the one of `step` and loads to exactly what save(step) wrote.
  void expect_latest(int64_t step) {
    const auto latest = find();
    ASSERT_TRUE(latest.has_value());
    BoundRun loaded(small_table(), kOptions), expected(small_table(), kOptions);
    scramble(expected, static_cast<uint64_t>(step));
    const CheckpointState state = load_checkpoint(*latest, loaded.table, loaded.optimizers);
    EXPECT_EQ(state.step, step);
    EXPECT_EQ(state.optimizer_t, step - 1);
    EXPECT_EQ(state.samples, 7 * step);
    EXPECT_EQ(state.data, state_of(step).data);
    EXPECT_EQ(state.config_json, state_of(step).config_json);
    EXPECT_EQ(state.losses, state_of(step).losses);
    EXPECT_EQ(state.gradient_norms, state_of(step).gradient_norms);
    EXPECT_TRUE(bytes_of(loaded) == bytes_of(expected)) << "other numbers than were saved at step " << step;
  }

  void expect_warning(const std::string& part) {
    ASSERT_EQ(warnings_.size(), 1u);
    EXPECT_NE(warnings_[0].find(part), std::string::npos) << warnings_[0] << "\nexpected: " << part;
  }

  std::vector<std::string> names() {
    std::vector<std::string> found;
    for (const auto& e : fs::directory_iterator(run_ / "checkpoints"))
      found.push_back(e.path().filename().string());
    std::sort(found.begin(), found.end());
    return found;
  }

  fs::path folder(const std::string& name) { return run_ / "checkpoints" / name; }

  BoundRun machine_{small_table(), kOptions};
  fs::path run_;
  std::vector<std::string> warnings_;
};

TEST_F(Checkpoint, SaveAndLoadKeepEveryBit) {
  const fs::path path = save(123);
  EXPECT_EQ(path, folder("step_00000123"));
  EXPECT_EQ(names(), std::vector<std::string>{"step_00000123"});
  std::vector<std::string> files;
  for (const auto& e : fs::directory_iterator(path)) files.push_back(e.path().filename().string());
  std::sort(files.begin(), files.end());
  EXPECT_EQ(files, (std::vector<std::string>{"manifest.json", "model.safetensors", "optimizer.safetensors"}));
  expect_latest(123);

  const SafetensorsFile model(path / "model.safetensors"), optimizer(path / "optimizer.safetensors");
  EXPECT_EQ(model.names().size(), machine_.table.all().size());
  EXPECT_EQ(model.tensor("h.0.qkv.bias").shape, Shape{18});
  EXPECT_EQ(optimizer.tensor("h.0.qkv.weight.v").shape, (Shape{18, 6}));

  const uint64_t version = machine_.table[0].version;
  load_checkpoint(path, machine_.table, machine_.optimizers);
  EXPECT_GT(machine_.table[0].version, version) << "rearranged copies of the old weights are stale";
}

TEST_F(Checkpoint, NoRunAndNoCheckpoint) {
  EXPECT_FALSE(find().has_value());
  EXPECT_FALSE(find_latest_checkpoint(run_ / "none").has_value());
  fs::create_directories(run_ / "checkpoints" / "notes");
  std::ofstream(run_ / "checkpoints" / "step_1x") << "";
  EXPECT_FALSE(find().has_value());
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(Checkpoint, TheNewestCountsNotTheLastWritten) {
  save(100'000'000);  // a digit more than the name is padded to
  save(20);
  save(9);
  expect_latest(100'000'000);
}

// What a crash can leave behind, stage by stage.
TEST_F(Checkpoint, UnfinishedOnesAreIgnored) {
  save(10);
  const fs::path newer = save(20), temporary = folder(".tmp-step_00000020");
  fs::rename(newer, temporary);  // died before the rename
  expect_latest(10);
  EXPECT_TRUE(warnings_.empty());
  fs::remove(temporary / "manifest.json");  // died before the manifest
  expect_latest(10);
  fs::resize_file(temporary / "optimizer.safetensors", 100);  // in the middle of a file
  expect_latest(10);
  fs::remove_all(temporary);
  fs::create_directory(temporary);  // before the first file
  expect_latest(10);
  save(30);
  EXPECT_EQ(names(), (std::vector<std::string>{"step_00000010", "step_00000030"}))
      << "leftovers go with the next save";
  expect_latest(30);
}

TEST_F(Checkpoint, BrokenOnesAreReportedAndPassedOver) {
  save(10);
  const fs::path good = folder("good");
  fs::rename(save(20), good);
  const auto broken = [&](const std::string& warning, auto&& harm) {
    const fs::path path = folder("step_00000020");
    fs::remove_all(path);
    fs::copy(good, path);
    harm(path);
    expect_latest(10);
    expect_warning(warning);
  };
  for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
    const auto bytes = fs::file_size(good / file);
    broken(fmt::format("{}: has {} bytes, the manifest says {}", file, bytes - 1, bytes),
           [&](const fs::path& p) { fs::resize_file(p / file, bytes - 1); });
    broken(fmt::format("{}: has {} bytes, the manifest says {}", file, bytes + 1, bytes),
           [&](const fs::path& p) { fs::resize_file(p / file, bytes + 1); });
    broken(fmt::format("{}: No such file", file), [&](const fs::path& p) { fs::remove(p / file); });
  }
  broken("manifest.json: No such file", [](const fs::path& p) { fs::remove(p / "manifest.json"); });
  broken("No such file", [](const fs::path& p) {
    fs::remove_all(p);
    fs::create_directory(p);
  });
  const std::string manifest = read_file(good / "manifest.json");
  for (const size_t size : {size_t{0}, size_t{1}, manifest.size() / 2, manifest.size() - 3}) {
    broken("manifest.json: is not a JSON object",
           [&](const fs::path& p) { fs::resize_file(p / "manifest.json", size); });
  }
  const auto edited = [&](const std::string& warning, auto&& edit) {
    broken(warning, [&](const fs::path& p) {
      json m = json::parse(manifest);
      edit(m);
      write_sealed(p, m);
    });
  };
  edited("is not a JSON object", [](json& m) { m = json::array(); });
  edited("has version 3, this program knows version 2", [](json& m) { m["version"] = 3; });
  edited("\"guard_losses\" is not an array of numbers", [](json& m) { m["guard_losses"] = {1, "2"}; });
  edited("\"guard_gradient_norms\" is not an array of numbers",
         [](json& m) { m["guard_gradient_norms"] = 3; });
  edited("\"version\" is not a whole number", [](json& m) { m.erase("version"); });
  edited("\"step\" is not a whole number", [](json& m) { m["step"] = -1; });
  edited("\"samples\" is not a whole number", [](json& m) { m["samples"] = 1.5; });
  edited("\"optimizer_t\" is not a whole number", [](json& m) { m["optimizer_t"] = 1ull << 63; });
  edited("\"config\" is not a string", [](json& m) { m["config"] = json::object(); });
  edited("\"files\" is not a JSON object", [](json& m) { m["files"] = 1; });
  edited("\"files\" does not hold \"model.safetensors\"",
         [](json& m) { m["files"].erase("model.safetensors"); });
  edited("\"bytes\" is not a whole number", [](json& m) { m["files"]["model.safetensors"].erase("bytes"); });
  edited("\"xxh3\" is not a string", [](json& m) { m["files"]["model.safetensors"].erase("xxh3"); });
  edited("step_00000020 holds step 21", [](json& m) { m["step"] = 21; });

  fs::remove_all(folder("step_00000010"));
  EXPECT_FALSE(find().has_value()) << "the only one is broken";
}

// One bit turned anywhere, in tensors, headers or manifest: the checkpoint does not count.
TEST_F(Checkpoint, EveryTurnedBitIsNoticed) {
  save(10);
  const fs::path path = save(20);
  const Random random(5, 0);
  uint64_t draw = 0;
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "manifest.json"}) {
    const std::string good = read_file(path / file);
    for (int i = 0; i < 40; i++) {
      const auto bit = static_cast<size_t>(random.uniform(draw++) * static_cast<double>(8 * good.size()));
      std::string bad = good;
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
      std::ofstream(path / file) << bad;
      const auto latest = find();
      ASSERT_TRUE(latest.has_value());
      EXPECT_EQ(latest->filename(), "step_00000010") << file << ", bit " << bit;
      EXPECT_EQ(warnings_.size(), 1u);
    }
    std::ofstream(path / file) << good;
  }
  expect_latest(20);
}

TEST_F(Checkpoint, SavingAStepAgainReplacesIt) {
  save(10);
  save(20);
  scramble(machine_, 99);
  save_checkpoint(run_, state_of(20), machine_.table, machine_.optimizers);
  EXPECT_EQ(names(), (std::vector<std::string>{"step_00000010", "step_00000020"}));
  BoundRun loaded(small_table(), kOptions);
  load_checkpoint(*find(), loaded.table, loaded.optimizers);
  EXPECT_TRUE(bytes_of(loaded) == bytes_of(machine_));
}

TEST_F(Checkpoint, AnInterruptedReplacementLosesNothing) {
  save(10);
  const fs::path current = save(20), old = folder(".old-step_00000020"), fresh = folder(".tmp-step_00000020");
  fs::copy(current, fresh);
  fs::rename(current, old);  // died between the two renames
  expect_latest(20);
  EXPECT_TRUE(warnings_.empty());
  save(30);
  EXPECT_EQ(names(), (std::vector<std::string>{"step_00000010", "step_00000020", "step_00000030"}))
      << "undone";
  fs::remove_all(folder("step_00000030"));
  expect_latest(20);

  fs::copy(current, old);  // died after both, before the old one went
  fs::remove(old / "manifest.json");
  expect_latest(20);
  EXPECT_TRUE(warnings_.empty());
  fs::remove_all(old);
  fs::copy(current, old);
  fs::remove(current / "manifest.json");  // the new one was damaged later
  expect_latest(20);
  expect_warning("manifest.json");
}

// A process that dies in the middle of a write: the system kills it when a file grows past a limit.
TEST_F(Checkpoint, KilledInsideEveryWrite) {
  save(10);
  const fs::path reference = save(20);
  const std::vector<std::string> before = {"step_00000010"};
  std::vector<rlim_t> limits = {0, 1};
  for (const char* file : {"manifest.json", "model.safetensors", "optimizer.safetensors"}) {
    const rlim_t bytes = fs::file_size(reference / file);
    limits.insert(limits.end(), {bytes / 2, bytes - 1});
  }
  fs::remove_all(reference);
  for (const rlim_t limit : limits) {
    for (const int64_t step : {int64_t{20}, int64_t{10}}) {
      SCOPED_TRACE(fmt::format("files of at most {} bytes, step {}", limit, step));
      const pid_t child = fork();
      if (child == 0) {
        const rlimit none = {0, 0}, small = {limit, limit};
        setrlimit(RLIMIT_CORE, &none);
        setrlimit(RLIMIT_FSIZE, &small);
        signal(SIGXFSZ, SIG_DFL);
        save(step);
        _exit(0);
      }
      int status = 0;
      ASSERT_EQ(waitpid(child, &status, 0), child);
      ASSERT_TRUE(WIFSIGNALED(status)) << "the limit was not reached";
      expect_latest(10);
      EXPECT_TRUE(warnings_.empty());
    }
  }
  save(20);
  EXPECT_EQ(names(), (std::vector<std::string>{"step_00000010", "step_00000020"}));
}

// Killed at arbitrary moments while it saves and prunes without end: at most the step in flight is lost.
TEST_F(Checkpoint, KilledAtAnyTime) {
  save(1);
  int64_t reached = 1;
  for (int attempt = 0; attempt < 20; attempt++) {
    int pipe_ends[2];
    ASSERT_EQ(pipe(pipe_ends), 0);
    const pid_t child = fork();
    if (child == 0) {
      for (int64_t step = reached + 1;; step++) {
        if (step % 3 == 0) save(step);  // and again, replacing
        save(step);
        if (write(pipe_ends[1], &step, sizeof step) != sizeof step) _exit(1);
        prune_checkpoints(run_, 2, 0);
      }
    }
    close(pipe_ends[1]);
    const double microseconds = 120'000 * Random(1, 2).uniform(static_cast<uint64_t>(attempt));
    usleep(static_cast<useconds_t>(microseconds));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    for (int64_t step; read(pipe_ends[0], &step, sizeof step) == sizeof step;) reached = step;
    close(pipe_ends[0]);

    const auto latest = find();
    ASSERT_TRUE(latest.has_value()) << "attempt " << attempt;
    EXPECT_TRUE(warnings_.empty()) << warnings_[0];
    const int64_t found = read_manifest(*latest).step;
    EXPECT_TRUE(found == reached || found == reached + 1) << "found " << found << ", saved " << reached;
    expect_latest(found);
    reached = found;
  }
}

TEST_F(Checkpoint, AFailedWriteLeavesTheOldOnesAndFreesTheSpace) {
  save(10);
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small = {2000, before.rlim_max};
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  std::string message;
  try {
    save(20);
  } catch (const Error& e) {
    message = e.what();
    EXPECT_EQ(e.code(), ExitCode::data);
    EXPECT_FALSE(e.hint().empty());
  }
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  EXPECT_NE(message.find("model.safetensors: cannot write the file: File too large"), std::string::npos)
      << message;
  EXPECT_EQ(names(), std::vector<std::string>{"step_00000010"});
  expect_latest(10);
}

TEST_F(Checkpoint, WhatDoesNotFitIsRefusedBeforeAnythingChanges) {
  const fs::path path = save(10);
  const auto refused = [&](ParameterTable table, const std::string& message) {
    BoundRun other(std::move(table), kOptions);
    scramble(other, 5);
    const std::string before = bytes_of(other);
    try {
      load_checkpoint(path, other.table, other.optimizers);
      FAIL() << "accepted; expected: " << message;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::data);
      EXPECT_NE(std::string(e.what()).find(message), std::string::npos)
          << e.what() << "\nexpected: " << message;
      EXPECT_FALSE(e.hint().empty());
    }
    EXPECT_TRUE(bytes_of(other) == before) << "something was loaded";
  };
  ParameterTable more = small_table();
  more.add("h.2.proj.weight", {6, 6}, ParameterKind::matrix);
  refused(std::move(more), "model.safetensors: there is no tensor h.2.proj.weight, which this run has");

  ParameterTable fewer, wider;
  for (const Parameter& p : machine_.table.all()) {
    if (p.name != "one.weight") fewer.add(p.name, p.shape, p.kind);
    wider.add(p.name, p.name == "head.weight" ? Shape{13, 7} : p.shape, p.kind);
  }
  refused(std::move(fewer), "model.safetensors: tensor one.weight does not exist in this run");
  refused(std::move(wider), "model.safetensors: tensor head.weight is 13 x 6, but 13 x 7 in this run");

  // The model fits, the optimizer's file does not.
  const auto rewrite = [&](const char* file, auto&& edit) {
    const std::string original = read_file(path / file);
    std::vector<TensorSource> tensors;
    const SafetensorsFile mapped(path / file);
    for (const std::string& name : mapped.names()) {
      const TensorView& view = mapped.tensor(name);
      tensors.push_back({name, view.type, view.shape, view.bytes.data()});
    }
    edit(tensors);
    write_safetensors(path / "new", tensors);
    fs::rename(path / "new", path / file);
    json manifest = json::parse(read_file(path / "manifest.json"));
    manifest["files"][file] = {{"bytes", fs::file_size(path / file)}, {"xxh3", file_checksum(path / file)}};
    write_sealed(path, manifest);
  };
  rewrite("optimizer.safetensors", [](auto& tensors) { tensors[0].type = TensorType::i32; });
  refused(small_table(), "optimizer.safetensors: tensor wte.weight.m is I32, not F32");
  rewrite("optimizer.safetensors", [](auto& tensors) {
    tensors[0].type = TensorType::f32;
    tensors.pop_back();
  });
  refused(small_table(), "optimizer.safetensors: there is no tensor ");

  std::ofstream(path / "model.safetensors", std::ios::in | std::ios::out) << "XXXX";
  refused(small_table(), "model.safetensors: its checksum is ");
  fs::remove(path / "manifest.json");
  refused(small_table(), "manifest.json: No such file");
}

TEST_F(Checkpoint, PruneKeepsTheNewest) {
  for (const int64_t step : {10, 20, 30, 40, 50}) save(step);
  prune_checkpoints(run_, 9, 0);
  EXPECT_EQ(names().size(), 5u);
  prune_checkpoints(run_, 2, 0);
  EXPECT_EQ(names(), (std::vector<std::string>{"step_00000040", "step_00000050"}));
  expect_latest(50);
  EXPECT_THROW(prune_checkpoints(run_, 0, 0), Error);
  prune_checkpoints(run_ / "none", 1, 0);
}

TEST_F(Checkpoint, PruneKeepsEveryMultiple) {
  for (const int64_t step : {10, 20, 30, 40, 50, 60, 70}) save(step);
  prune_checkpoints(run_, 1, 30);
  EXPECT_EQ(names(), (std::vector<std::string>{"step_00000030", "step_00000060", "step_00000070"}));
  prune_checkpoints(run_, 2, 40);
  EXPECT_EQ(names(), (std::vector<std::string>{"step_00000060", "step_00000070"}));
}

TEST_F(Checkpoint, PruneNeverTradesACompleteCheckpointForABrokenOne) {
  for (const int64_t step : {10, 20, 30, 40}) save(step);
  fs::remove(folder("step_00000040") / "manifest.json");
  fs::remove(folder("step_00000020") / "manifest.json");
  prune_checkpoints(run_, 2, 0);
  EXPECT_EQ(names(),
            (std::vector<std::string>{"step_00000010", "step_00000020", "step_00000030", "step_00000040"}));
  prune_checkpoints(run_, 1, 0);
  EXPECT_EQ(names(), (std::vector<std::string>{"step_00000030", "step_00000040"}));
  expect_latest(30);
}

TEST_F(Checkpoint, AnInterruptedPruneLeavesNothingThatLooksWhole) {
  const fs::path old = save(10);
  save(20);
  fs::rename(old, folder(".tmp-step_00000010"));  // died before deleting
  fs::remove(folder(".tmp-step_00000010") / "manifest.json");
  expect_latest(20);
  EXPECT_TRUE(warnings_.empty());
  save(10);
  prune_checkpoints(run_, 1, 0);
  EXPECT_EQ(names(), std::vector<std::string>{"step_00000020"});
}

}  // namespace
}  // namespace kiln::tests
