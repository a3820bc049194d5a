#include "src/device/parameters.h"

#include <gtest/gtest.h>

#include "src/core/error.h"

namespace kiln {
namespace {

ParameterTable small_table() {
  ParameterTable table;
  table.add("embedding.weight", {11, 6}, ParameterKind::embedding);
  table.add("qkv.weight", {18, 6}, ParameterKind::matrix, {{"q", 0, 6}, {"k", 6, 6}, {"v", 12, 6}});
  table.add("qkv.bias", {18}, ParameterKind::bias);
  return table;
}

TEST(ParameterTable, CountsElements) {
  const ParameterTable table = small_table();
  EXPECT_EQ(table.elements(), 11 * 6 + 18 * 6 + 18);
  EXPECT_EQ(table.all().size(), 3u);
  EXPECT_EQ(table[1].elements(), 18 * 6);
  EXPECT_EQ(table[1].splits[2].name, "v");
}

TEST(ParameterTable, IndicesFollowTheOrderOfAddition) {
  ParameterTable table;
  for (int i = 0; i < 100; i++) EXPECT_EQ(table.add(fmt::format("p{}", i), {i + 1}, ParameterKind::norm), i);
  for (int i = 0; i < 100; i++) EXPECT_EQ(table[i].name, fmt::format("p{}", i));
}

TEST(ParameterTable, RefusesBrokenDeclarations) {
  ParameterTable table = small_table();
  EXPECT_THROW(table.add("qkv.bias", {3}, ParameterKind::bias), Error) << "a name twice";
  EXPECT_THROW(table.add("gap", {4, 2}, ParameterKind::matrix, {{"a", 0, 1}, {"b", 2, 3}}), Error);
  EXPECT_THROW(table.add("overlap", {4, 2}, ParameterKind::matrix, {{"a", 0, 3}, {"b", 2, 1}}), Error);
  EXPECT_THROW(table.add("short", {4, 2}, ParameterKind::matrix, {{"a", 0, 3}}), Error);
  EXPECT_THROW(table.add("long", {4, 2}, ParameterKind::matrix, {{"a", 0, 5}}), Error);
  EXPECT_THROW(table.add("empty", {4, 2}, ParameterKind::matrix, {{"a", 0, 0}, {"b", 0, 4}}), Error);
  EXPECT_EQ(table.all().size(), 3u);
}

TEST(ParameterTable, Fp32WeightsAreTheirOwnMasters) {
  ParameterTable table = small_table();
  Plan plan;
  table.plan(plan, DType::f32, true);
  size_t bytes[kCategories] = {};
  for (const PlanEntry& e : plan.entries()) bytes[static_cast<size_t>(e.category)] += e.bytes;
  EXPECT_EQ(bytes[static_cast<size_t>(Category::parameters)], static_cast<size_t>(table.elements()) * 4);
  EXPECT_EQ(bytes[static_cast<size_t>(Category::gradients)], static_cast<size_t>(table.elements()) * 4);
  EXPECT_EQ(bytes[static_cast<size_t>(Category::master_weights)], 0u);

  const Arena arena(plan, ArenaMode::slab, Device{});
  table.bind(arena);
  for (const Parameter& p : table.all()) {
    EXPECT_EQ(p.weight, p.master);
    ASSERT_NE(p.gradient, nullptr);
    EXPECT_NE(p.gradient, p.master);
    for (int64_t i = 0; i < p.elements(); i++) p.master[i] = p.gradient[i] = 1;  // sanitizers watch the ends
  }
}

TEST(ParameterTable, Bf16WeightsHaveFp32Masters) {
  ParameterTable table = small_table();
  Plan plan;
  table.plan(plan, DType::bf16, true);
  size_t bytes[kCategories] = {};
  for (const PlanEntry& e : plan.entries()) bytes[static_cast<size_t>(e.category)] += e.bytes;
  EXPECT_EQ(bytes[static_cast<size_t>(Category::parameters)], static_cast<size_t>(table.elements()) * 2);
  EXPECT_EQ(bytes[static_cast<size_t>(Category::master_weights)], static_cast<size_t>(table.elements()) * 4);
  const Arena arena(plan, ArenaMode::discrete, Device{});
  table.bind(arena);
  for (const Parameter& p : table.all()) {
    EXPECT_EQ(p.dtype, DType::bf16);
    ASSERT_NE(p.master, nullptr);
    EXPECT_NE(static_cast<void*>(p.master), p.weight);
  }
}

TEST(ParameterTable, WithoutTrainingThereAreNoGradients) {
  ParameterTable table = small_table();
  Plan plan;
  table.plan(plan, DType::f32, false);
  EXPECT_EQ(plan.entries().size(), 3u);
  const Arena arena(plan, ArenaMode::slab, Device{});
  table.bind(arena);
  for (const Parameter& p : table.all()) EXPECT_EQ(p.gradient, nullptr);
}

TEST(ParameterTable, MustBePlannedBeforeItIsBound) {
  ParameterTable table = small_table();
  const Arena arena(Plan{}, ArenaMode::slab, Device{});
  EXPECT_THROW(table.bind(arena), Error);
}

TEST(ParameterTable, UpdatesBumpEveryVersion) {
  ParameterTable table = small_table();
  table.bump_versions();
  table.bump_versions();
  for (const Parameter& p : table.all()) EXPECT_EQ(p.version, 3u);
}

TEST(ParameterTable, KindsHaveNames) {
  EXPECT_EQ(name_of(ParameterKind::matrix), "matrix");
  EXPECT_EQ(name_of(ParameterKind::embedding), "embedding");
  EXPECT_EQ(name_of(ParameterKind::head), "head");
  EXPECT_EQ(name_of(ParameterKind::norm), "norm");
  EXPECT_EQ(name_of(ParameterKind::bias), "bias");
}

}  // namespace
}  // namespace kiln
