#include "src/plan/planned_run.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>
#include <set>

#include "src/config/load.h"
#include "src/core/file.h"
#include "src/plan/advice.h"
#include "tests/paths.h"

namespace kiln::plan {
namespace {

PlannedRun plan_preset(const char* preset, const std::vector<std::string>& overrides = {}) {
  const auto config = config::load(paths::source() + "/configs/" + preset, overrides);
  Device device;
  device.isa = best_isa();
  device.threads = 2;
  return plan_run(config, device);
}

// 50304 x 768 + 1024 x 768 + 12 (12 x 768^2 + 13 x 768) + 2 x 768; 124,439,808 without the 47 padding rows.
TEST(PlannedRun, Gpt2SmallHasItsParameters) {
  const PlannedRun run = plan_preset("gpt2-124m/adamw.json");
  EXPECT_EQ(run.model->parameters().elements(), 124439808 + 47 * 768);
}

// V x C + T x C + L (12 C^2 + 13 C) + 2 C: embeddings, blocks (four matrices of 12 C^2 together, their biases and two norms),
// last norm. GPT-2's vocabulary has 47 rows of padding. LLaMA: 2 V x C + L (4 C^2 + 3 C F + 2 C) + C.
TEST(Presets, EveryOneResolvesToAModelOfItsSize) {
  const std::map<std::string, int64_t> parameters = {{"gpt2-124m", 124'439'808 + 47 * 768},
                                                     {"gpt2-350m", 354'823'168 + 47 * 1024},
                                                     {"gpt2-mini", 1'874'688},
                                                     {"llama-134m", 134'105'856},
                                                     {"llama-450m", 455'990'400},
                                                     {"llama-mini", 2'901'120}};
  const std::map<std::string, std::set<std::string>> ranks = {{"gpt2-124m", {"r32", "r64", "r128", "r256"}},
                                                              {"gpt2-350m", {"r32", "r64", "r128", "r256"}},
                                                              {"gpt2-mini", {"r16", "r32"}},
                                                              {"llama-134m", {"r32", "r64", "r128", "r256"}},
                                                              {"llama-450m", {"r32", "r64", "r128", "r256"}},
                                                              {"llama-mini", {"r16", "r32"}}};
  std::set<std::string> folders;
  for (const auto& folder : std::filesystem::directory_iterator(paths::source() + "/configs")) {
    const std::string model = folder.path().filename();
    folders.insert(model);
    ASSERT_TRUE(parameters.contains(model)) << model << " has no parameter count here";
    std::set<std::string> names;
    for (const auto& file : std::filesystem::directory_iterator(folder.path())) {
      const std::string name = file.path().stem();
      SCOPED_TRACE(model + "/" + name);
      names.insert(name);
      const PlannedRun run = plan_preset((model + "/" + name + ".json").c_str());
      EXPECT_EQ(run.model->parameters().elements(), parameters.at(model));
      const auto config = config::load(file.path());
      if (name != "base") {
        EXPECT_EQ(name.find(config.optimizer.name), 0u) << "the file is named after another optimizer";
      }
      if (const size_t rank = name.rfind("-r"); config.optimizer.name == "pro-kl-shampoo") {
        EXPECT_EQ(fmt::format("r{}", config.optimizer.rank), name.substr(rank + 1));
      }
      EXPECT_NE(read_file(file.path()).find("\"notes\""), std::string::npos)
          << "where do the values come from?";
    }
    std::set<std::string> expected = {"base", "adamw", "muon", "kl-shampoo", "kl-shampoo-published"};
    for (const auto& rank : ranks.at(model)) expected.insert("pro-kl-shampoo-" + rank);
    EXPECT_EQ(names, expected) << model;
  }
  EXPECT_EQ(folders.size(), parameters.size());
}

TEST(PlannedRun, MemoryOfGpt2SmallFollowsItsParameters) {
  const PlannedRun run = plan_preset("gpt2-124m/adamw.json");
  const auto layout = run.plan.layout();
  const auto bytes = static_cast<size_t>(run.model->parameters().elements()) * 4;
  const auto of = [&](Category c) { return layout.category_bytes[static_cast<size_t>(c)]; };
  // Each of the 148 tensors is rounded up to 128 bytes.
  EXPECT_GE(of(Category::parameters), bytes);
  EXPECT_LE(of(Category::parameters), bytes + 148 * 127);
  EXPECT_EQ(of(Category::gradients), of(Category::parameters));
  EXPECT_EQ(of(Category::optimizer_state), 2 * of(Category::parameters));
  size_t sum = 0;
  for (size_t category : layout.category_bytes) sum += category;
  EXPECT_EQ(sum, layout.total_bytes);
}

// To the byte: what the elements of docs/optimizers.md make of GPT-2's matrices. Each layer has queries, keys, values and the
// attention's output, C x C, and the two of the MLP, 4C x C and C x 4C; AdamW keeps two elements for each of the embeddings,
// the layers' 9C biases and 4C norms, and the last norm's 2C.
TEST(PlannedRun, OptimizerStateIsTheElementFormulasToTheByte) {
  using Elements = std::function<int64_t(int64_t rows, int64_t cols)>;
  const Elements kl = [](int64_t m, int64_t n) { return m * n + 2 * m * m + 2 * n * n + m + n; };
  const Elements kl_by_roots = [](int64_t m, int64_t n) { return m * n + m * m + n * n; };
  // Of an m x n matrix whose restricted side is n.
  const auto pro = [](int64_t m, int64_t n, int64_t r) { return m * n + 2 * m * m + m + n * r + r * r + 1; };
  const Elements larger = [=](int64_t rows, int64_t cols) {
    return pro(std::min(rows, cols), std::max(rows, cols), 128);
  };
  const Elements input = [=](int64_t rows, int64_t cols) { return pro(rows, cols, 128); };
  const Elements accumulating = [=](int64_t rows, int64_t cols) {
    return larger(rows, cols) + std::max(rows, cols) * 128;
  };
  const Elements pro_by_roots = [=](int64_t rows, int64_t cols) {
    const int64_t m = std::min(rows, cols);
    return larger(rows, cols) - m * m - m;
  };
  const struct {
    const char* optimizer;
    std::vector<std::string> overrides;
    Elements elements;
  } cases[] = {
      {"adamw", {}, [](int64_t m, int64_t n) { return 2 * m * n; }},
      {"muon", {}, [](int64_t m, int64_t n) { return m * n; }},
      {"kl-shampoo", {}, kl},
      {"kl-shampoo-published", {}, kl},
      {"kl-shampoo", {"optimizer.root=newton_schulz"}, kl_by_roots},
      {"pro-kl-shampoo-r128", {}, larger},
      {"pro-kl-shampoo-r128", {"optimizer.orientation=input"}, input},
      {"pro-kl-shampoo-r128", {"optimizer.tracker=accumulate"}, accumulating},
      {"pro-kl-shampoo-r128", {"optimizer.root=newton_schulz"}, pro_by_roots},
  };
  for (const auto& c : cases) {
    for (const auto& [model, C, L] : {std::tuple{"gpt2-124m", int64_t{768}, 12}, {"gpt2-350m", 1024, 24}}) {
      const PlannedRun run = plan_preset(fmt::format("{}/{}.json", model, c.optimizer).c_str(), c.overrides);
      size_t bytes = 0;
      for (const PlanEntry& e : run.plan.entries()) {
        if (e.category == Category::optimizer_state) bytes += e.bytes;
      }
      const int64_t by_adamw = (50304 + 1024) * C + L * (9 * C + 4 * C) + 2 * C;
      const int64_t hidden = L * (4 * c.elements(C, C) + c.elements(4 * C, C) + c.elements(C, 4 * C));
      EXPECT_EQ(bytes, 4 * static_cast<size_t>(2 * by_adamw + hidden))
          << model << " " << c.optimizer << " " << (c.overrides.empty() ? "" : c.overrides[0]);
    }
  }
}

// Optimizer state in fp32 GiB, calculated by hand with three digits (2.8265 was rounded up); AdamW's part for embeddings,
// norms and biases included, vocabulary padded.
TEST(PlannedRun, OptimizerStateFollowsTheElementFormulas) {
  const auto gib = [](const char* preset, std::vector<std::string> overrides) {
    const PlannedRun run = plan_preset(preset, overrides);
    double bytes = 0;
    for (const PlanEntry& e : run.plan.entries()) {
      if (e.category == Category::optimizer_state) bytes += static_cast<double>(e.bytes);
    }
    return bytes / (1 << 30);
  };
  const struct {
    const char* optimizer;
    std::vector<std::string> overrides;
    double small, medium;  // gpt2-124m, gpt2-350m
  } cases[] = {{"adamw", {}, 0.927, 2.644},
               {"muon", {}, 0.611, 1.519},
               {"kl-shampoo", {}, 2.827, 9.396},
               {"pro-kl-shampoo-r128", {}, 0.985, 2.794},
               {"pro-kl-shampoo-r128", {"optimizer.orientation=input"}, 1.763, 5.572}};
  for (const auto& c : cases) {
    EXPECT_NEAR(gib(fmt::format("gpt2-124m/{}.json", c.optimizer).c_str(), c.overrides), c.small, 0.0006)
        << c.optimizer;
    EXPECT_NEAR(gib(fmt::format("gpt2-350m/{}.json", c.optimizer).c_str(), c.overrides), c.medium, 0.0006)
        << c.optimizer << " 350m";
  }
  const struct {
    const char* optimizer;
    std::vector<std::string> overrides;
    double small, large;  // llama-134m, llama-450m
  } llamas[] = {{"adamw", {}, 0.999, 3.397},
                {"muon", {}, 0.683, 1.974},
                {"kl-shampoo", {}, 2.389, 9.648},
                {"pro-kl-shampoo-r128", {}, 1.110, 3.804},
                {"pro-kl-shampoo-r128", {"optimizer.orientation=input"}, 1.740, 6.661}};
  for (const auto& c : llamas) {
    EXPECT_NEAR(gib(fmt::format("llama-134m/{}.json", c.optimizer).c_str(), c.overrides), c.small, 0.0006)
        << c.optimizer;
    EXPECT_NEAR(gib(fmt::format("llama-450m/{}.json", c.optimizer).c_str(), c.overrides), c.large, 0.0006)
        << c.optimizer;
  }
}

// train.recompute keeps one residual stream a block, and one block's other activations; model flops stay what they are.
TEST(PlannedRun, RecomputationSavesMostActivations) {
  const std::vector<std::string> large = {"train.micro_batch=8", "train.sequence=1024"};
  std::vector<std::string> recompute = large;
  recompute.emplace_back("train.recompute=block");
  for (const char* preset : {"llama-450m/adamw.json", "gpt2-350m/adamw.json"}) {
    const PlannedRun keeps = plan_preset(preset, large), recomputes = plan_preset(preset, recompute);
    const auto activations = [](const PlannedRun& run) {
      return static_cast<double>(
          run.plan.layout().category_bytes[static_cast<size_t>(Category::activations)]);
    };
    EXPECT_LE(activations(recomputes), 0.4 * activations(keeps)) << preset;
    EXPECT_EQ(recomputes.training_flops, keeps.training_flops) << preset;
    EXPECT_EQ(recomputes.forward_flops, keeps.forward_flops) << preset;
  }
  const PlannedRun run = plan_preset("llama-450m/adamw.json", recompute);
  const double tokens = 8 * 1024, C = 1152, F = 3072, L = 24;
  // Residual streams and the last norm's output; a block's norms, queries, keys, values, attention, stream, gate, up and
  // product, its statistics; what backward needs of attention; logits; angles.
  const double kept = (L + 2) * C + 1;
  const double block = 2 * (C + 1) + 3 * C + C + 18 + C + 3 * F;
  const double backward = 4 * C, head = 1024 * 32000.0 / tokens, angles = 1024 * 64 / tokens;
  const double bytes =
      static_cast<double>(run.plan.layout().category_bytes[static_cast<size_t>(Category::activations)]);
  EXPECT_LE(bytes, 4 * tokens * (kept + block + backward + head + angles));
  EXPECT_GE(bytes, 4 * tokens * (L * C + block));
}

// "If n > m, no buffer of n^2 elements may exist": the widest side of gpt2-124m's matrices is 3072.
TEST(PlannedRun, ProKlShampooNeedsNothingOfTheSquareOfTheLargerSide) {
  const PlannedRun run = plan_preset("gpt2-124m/pro-kl-shampoo-r128.json");
  for (const PlanEntry& e : run.plan.entries()) {
    if (e.category == Category::optimizer_state) {
      // Momenta are 3072 x 768, AdamW's embeddings 50304 x 768: nothing else is as large as 3072^2.
      EXPECT_TRUE(e.bytes < size_t{3072} * 3072 * 4 || e.name.starts_with("wte.")) << e.name;
    }
  }
  // One such square alone would be half of what temporaries may take, and KL-Shampoo's workspace holds some.
  EXPECT_LT(run.plan.entries()[static_cast<size_t>(run.workspace_id)].bytes, size_t{96} << 20);
}

// Forward: two flops per weight of every linear layer and of the head; attention 2 T C per layer and token (the causal
// half of two T x T x C products). Backward twice that.
TEST(PlannedRun, FlopsAreCountedFromTheCalls) {
  const PlannedRun run = plan_preset("gpt2-124m/adamw.json");
  const double tokens = static_cast<double>(run.shape.B * run.shape.T), T = static_cast<double>(run.shape.T);
  const double weights = 12.0 * 12 * 768 * 768 + 50304.0 * 768;
  const double forward = 2 * weights + 12 * 2 * T * 768;
  EXPECT_DOUBLE_EQ(run.forward_flops / tokens, forward);
  EXPECT_DOUBLE_EQ(run.training_flops / tokens, 3 * forward);
}

// For each purpose: keys that lower the plan, with the very totals that they would give, and none that do not.
TEST(Advice, NamesKeysThatHelpThePurpose) {
  const Device device = cpu_device(2);
  auto config = config::load(paths::source() + "/configs/gpt2-mini/adamw.json",
                             {"train.micro_batch=64", "train.tokens_per_step=8192", "train.loss_rows=4096",
                              "validation.tokens=32768"});
  ASSERT_EQ(config.train.sequence, 128);
  for (const auto& [purpose, keys] :
       {std::pair{Purpose::training, std::set<std::string>{"train.micro_batch", "train.sequence",
                                                           "train.loss_rows", "train.recompute"}},
        {Purpose::evaluation, {"train.micro_batch", "train.sequence", "train.loss_rows"}},
        {Purpose::generation, {"train.sequence"}}}) {
    const PlannedRun run = plan_run(config, device, purpose);
    const std::string advice = how_to_lower(config, run, device);
    std::set<std::string> found;
    for (const char* key :
         {"train.micro_batch", "train.sequence", "train.loss_rows", "validation.tokens", "train.recompute"}) {
      if (advice.find(fmt::format("{} = ", key)) != std::string::npos) found.insert(key);
    }
    EXPECT_EQ(found, keys) << advice;
    config::Config shorter = config;
    shorter.train.sequence /= 2;
    const size_t total = plan_run(shorter, device, purpose).plan.layout().total_bytes;
    EXPECT_NE(advice.find(fmt::format("train.sequence = 64 instead of 128: {}", bytes_text(total))),
              std::string::npos)
        << advice;
    EXPECT_EQ(advice.find("optimizer") != std::string::npos, purpose == Purpose::training) << advice;
    EXPECT_EQ(advice.find("model.layers") != std::string::npos, purpose == Purpose::training)
        << "the weights of a trained model are what they are: " << advice;
  }
  // One block is all that there is to compute again: nothing is saved.
  config::Config single = config;
  single.model.layers = 1;
  EXPECT_EQ(how_to_lower(single, plan_run(single, device), device).find("train.recompute"),
            std::string::npos);
  // Fewer tokens than the micro-batch: then these decide the size of a pass.
  config.validation.tokens = 32 * 128;
  const std::string advice = how_to_lower(config, plan_run(config, device, Purpose::evaluation), device);
  EXPECT_NE(advice.find("validation.tokens = 2048 instead of 4096"), std::string::npos) << advice;
  config.validation.tokens = 128;
  config.train.sequence = 127;  // odd: nothing to halve, nothing that helps
  EXPECT_NE(
      how_to_lower(config, plan_run(config, device, Purpose::generation), device).find("larger machine"),
      std::string::npos);
}

TEST(PlannedRun, CountsParametersWithoutADevice) {
  const auto config = config::load(paths::source() + "/configs/gpt2-mini/muon.json");
  EXPECT_EQ(parameter_count(config), plan_preset("gpt2-mini/muon.json").model->parameters().elements());
}

TEST(PlannedRun, MicroBatchesFillTheStep) {
  EXPECT_EQ(plan_preset("gpt2-124m/adamw.json", {"train.micro_batch=4"}).micro_batches, 524288 / (4 * 1024));
}

}  // namespace
}  // namespace kiln::plan
