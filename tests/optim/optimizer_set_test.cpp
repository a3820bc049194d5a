#include "optim/optimizer_set.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "optim/pro_kl_shampoo.h"
#include "src/core/error.h"
#include "tests/optim/reference_adamw.h"
#include "tests/optim/support.h"

namespace kiln::tests {
namespace {

using namespace optim;

constexpr AdamWOptions kOptions{.lr = 1e-3, .b1 = 0.9, .b2 = 0.95, .eps = 1e-8, .wd = 0.1};

TEST(OptimizerSet, PlansExactlyTwoTensorsPerParameter) {
  const ParameterTable table = small_table();
  OptimizerSet optimizers(route(table, kOptions));
  Plan plan;
  optimizers.plan(plan);
  std::map<std::string, size_t> bytes;
  for (const PlanEntry& e : plan.entries()) {
    EXPECT_EQ(e.category, Category::optimizer_state);
    EXPECT_EQ(e.lifetime, Lifetime{});
    EXPECT_TRUE(bytes.emplace(e.name, e.bytes).second) << e.name << " twice";
  }
  EXPECT_EQ(bytes.size(), 2 * table.all().size());
  size_t total = 0;
  for (const Parameter& p : table.all()) {
    EXPECT_EQ(bytes[p.name + ".m"], static_cast<size_t>(p.elements()) * 4) << p.name;
    EXPECT_EQ(bytes[p.name + ".v"], static_cast<size_t>(p.elements()) * 4) << p.name;
    total += bytes[p.name + ".m"] + bytes[p.name + ".v"];
  }
  EXPECT_EQ(total, 2 * 4 * static_cast<size_t>(table.elements()));
}

TEST(OptimizerSet, StateTensorsPointIntoTheArena) {
  BoundRun run(small_table(), kOptions);
  const auto& tensors = run.optimizers.state_tensors();
  ASSERT_EQ(tensors.size(), 2 * run.table.all().size());
  for (const StateTensor& s : tensors) {
    EXPECT_EQ(s.data, run.arena->at<float>(s.buffer)) << s.name;
    EXPECT_EQ(run.plan.entries()[static_cast<size_t>(s.buffer)].name, s.name);
    for (int64_t i = 0; i < s.rows * s.cols; i++) EXPECT_EQ(s.data[i], 0.0f);
  }
}

// Every parameter moves as if it were alone. Tolerances, over three steps: an average rounds four times a
// step (m) or six (v) at a size below that of the largest scaled gradient, .2 (eight standard deviations), or
// its square; the update, at most 1.5 lr, rounds a dozen times, the weight three times.
TEST(OptimizerSet, UpdatesEveryParameterWithItsOwnDecayAndState) {
  Machine machine;
  BoundRun run(small_table(), kOptions);
  std::vector<std::vector<double>> w;
  std::vector<ReferenceAdamW> reference;
  for (size_t i = 0; i < run.table.all().size(); i++) {
    const Parameter& p = run.table.all()[i];
    w.push_back(normals(p.elements(), i));
    for (size_t j = 0; j < w[i].size(); j++) p.master[j] = static_cast<float>(w[i][j]);
    reference.push_back(
        {kOptions.lr, kOptions.b1, kOptions.b2, kOptions.eps, p.shape.size() == 2 ? kOptions.wd : 0, {}, {}});
  }
  for (int t = 1; t <= 3; t++) {
    for (size_t i = 0; i < w.size(); i++) {
      const auto g = normals(run.table.all()[i].elements(), 1000 * static_cast<uint64_t>(t) + i, 0.1);
      for (size_t j = 0; j < g.size(); j++) run.table.all()[i].gradient[j] = static_cast<float>(g[j]);
      reference[i].step(w[i], g, 0.5, 0.25);
    }
    run.optimizers.step(machine.context, {.t = t, .lr_multiplier = 0.5, .gradient_scale = 0.25});
  }
  std::map<std::string, const StateTensor*> state;
  for (const StateTensor& s : run.optimizers.state_tensors()) state[s.name] = &s;
  for (size_t i = 0; i < w.size(); i++) {
    const Parameter& p = run.table.all()[i];
    for (size_t j = 0; j < w[i].size(); j++) {
      EXPECT_NEAR(p.master[j], w[i][j], 3 * kUnit * (18 * kOptions.lr + 3 * std::abs(w[i][j]))) << p.name;
      EXPECT_NEAR(state[p.name + ".m"]->data[j], reference[i].m[j], 3 * 4 * kUnit * 0.2) << p.name;
      EXPECT_NEAR(state[p.name + ".v"]->data[j], reference[i].v[j], 3 * 6 * kUnit * 0.04) << p.name;
    }
  }
}

// AdamW works element by element, so cutting fused matrices apart changes where state lives and nothing else.
TEST(OptimizerSet, RowBlocksOfFusedMatricesGiveTheSameBits) {
  ParameterTable table = small_table();
  std::vector<int> all(table.all().size());
  std::iota(all.begin(), all.end(), 0);
  Routing split{.parameters = &table, .groups = {}};
  split.groups.push_back({std::make_unique<AdamW>(kOptions), batch_by_shape(table, all, Fused::split)});
  OptimizerSet blocks(std::move(split));
  Plan plan;
  table.plan(plan, DType::f32, true);
  blocks.plan(plan);
  Arena arena(plan, ArenaMode::discrete, cpu_device(1));
  table.bind(arena);
  blocks.bind(arena);
  BoundRun whole(small_table(), kOptions);

  Machine machine;
  for (int t = 1; t <= 2; t++) {
    for (size_t i = 0; i < all.size(); i++) {
      const auto g = normals(table.all()[i].elements(), 100 * static_cast<uint64_t>(t) + i);
      for (size_t j = 0; j < g.size(); j++) {
        table.all()[i].gradient[j] = whole.table.all()[i].gradient[j] = static_cast<float>(g[j]);
      }
    }
    const StepInfo info{.t = t, .lr_multiplier = 1, .gradient_scale = 1};
    blocks.step(machine.context, info);
    whole.optimizers.step(machine.context, info);
  }
  for (size_t i = 0; i < all.size(); i++) {
    const Parameter& p = table.all()[i];
    if (p.shape.size() != 2) continue;  // these decay in one run and not in the other
    for (int64_t j = 0; j < p.elements(); j++) {
      EXPECT_EQ(p.master[j], whole.table.all()[i].master[j]) << p.name << " element " << j;
    }
  }
  const auto& state = blocks.state_tensors();
  const auto named = [&](const std::string& name) {
    return std::find_if(state.begin(), state.end(), [&](const StateTensor& s) { return s.name == name; });
  };
  ASSERT_NE(named("h.1.qkv.weight.k.v"), state.end());
  EXPECT_EQ(named("h.1.qkv.weight.k.v")->rows, 6);
  EXPECT_EQ(named("h.1.qkv.weight.v"), state.end());
}

TEST(OptimizerSet, ADryRunNeedsNoMemory) {
  ParameterTable table = small_table();
  OptimizerSet optimizers(route(table, kOptions));
  DryRun record;
  Context context;
  context.device = cpu_device(1);
  context.dry_run = &record;
  optimizers.step(context, {.t = 1, .lr_multiplier = 1, .gradient_scale = 1});
  EXPECT_EQ(record.kernel_calls["adamw_step"], static_cast<int64_t>(table.all().size()));
}

TEST(OptimizerSet, DescribesTheRouting) {
  const ParameterTable table = small_table();
  const OptimizerSet optimizers(route(table, kOptions));
  EXPECT_EQ(optimizers.describe(),
            "  parameter                shape  count  optimizer            lr       wd  rank\n"
            "  wte.weight              13 x 6      1  adamw             0.001      0.1     -\n"
            "  head.weight             13 x 6      1  adamw             0.001      0.1     -\n"
            "  h.*.qkv.weight          18 x 6      2  adamw             0.001      0.1     -\n"
            "  h.*.proj.weight          6 x 6      2  adamw             0.001      0.1     -\n"
            "  one.weight                   1      1  adamw             0.001      0.1     -\n"
            "  h.*.norm.weight              6      2  adamw             0.001        0     -\n"
            "  h.*.qkv.bias                18      2  adamw             0.001        0     -\n");
}

// Hidden matrices go to the matrix optimizer, query, key and value each on its own; a matrix of one row does not.
TEST(OptimizerSet, DescribesTheRoutingOfAMatrixOptimizer) {
  const ParameterTable table = small_table();
  const OptimizerSet optimizers(
      route(table, std::make_unique<ProKlShampoo>(ProKlShampooOptions{.rank = 4}), kOptions));
  EXPECT_EQ(optimizers.describe(),
            "  parameter                 shape  count  optimizer            lr       wd  rank\n"
            "  h.*.qkv.weight.q          6 x 6      2  pro-kl-shampoo    0.005      0.1     4\n"
            "  h.*.qkv.weight.k          6 x 6      2  pro-kl-shampoo    0.005      0.1     4\n"
            "  h.*.qkv.weight.v          6 x 6      2  pro-kl-shampoo    0.005      0.1     4\n"
            "  h.*.proj.weight           6 x 6      2  pro-kl-shampoo    0.005      0.1     4\n"
            "  wte.weight               13 x 6      1  adamw             0.001      0.1     -\n"
            "  head.weight              13 x 6      1  adamw             0.001      0.1     -\n"
            "  one.weight                    1      1  adamw             0.001      0.1     -\n"
            "  h.*.norm.weight               6      2  adamw             0.001        0     -\n"
            "  h.*.qkv.bias                 18      2  adamw             0.001        0     -\n");
}

TEST(OptimizerSet, RefusesToBindBeforeItIsPlanned) {
  ParameterTable table = small_table();
  OptimizerSet optimizers(route(table, kOptions));
  Plan plan;
  Arena arena(plan, ArenaMode::slab, cpu_device(1));
  EXPECT_THROW(optimizers.bind(arena), Error);
}

}  // namespace
}  // namespace kiln::tests
