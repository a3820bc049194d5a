#include "optim/routing.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <set>

#include "optim/muon.h"
#include "src/core/error.h"
#include "tests/optim/support.h"

namespace kiln::tests {
namespace {

using namespace optim;

constexpr AdamWOptions kAdamW{.lr = 1e-3, .b1 = 0.9, .b2 = 0.95, .eps = 1e-8, .wd = 0.1};

std::vector<int> all_of(const ParameterTable& table) {
  std::vector<int> indices(table.all().size());
  std::iota(indices.begin(), indices.end(), 0);
  return indices;
}

// Counts how often each element of each parameter is covered; checks names, sizes, and that no shape has two
// batches.
std::vector<std::vector<int>> coverage(const ParameterTable& table,
                                       const std::vector<const RoutedBatch*>& batches) {
  std::vector<std::vector<int>> covered;
  for (const Parameter& p : table.all()) covered.emplace_back(static_cast<size_t>(p.elements()), 0);
  for (const RoutedBatch* b : batches) {
    const MatrixBatch& m = b->matrices;
    EXPECT_EQ(m.names.size(), b->sources.size());
    EXPECT_EQ(m.count(), static_cast<int64_t>(m.names.size()));
    for (size_t k = 0; k < b->sources.size(); k++) {
      const Parameter& p = table[b->sources[k].parameter];
      EXPECT_EQ(m.names[k].rfind(p.name, 0), 0u);
      EXPECT_EQ(m.cols, p.shape.back());
      for (int64_t row = 0; row < m.rows; row++) {
        for (int64_t col = 0; col < m.cols; col++) {
          covered[static_cast<size_t>(b->sources[k].parameter)].at(
              static_cast<size_t>((b->sources[k].first_row + row) * m.ld + col))++;
        }
      }
    }
  }
  return covered;
}

void expect_all_once(const std::vector<std::vector<int>>& covered) {
  for (size_t i = 0; i < covered.size(); i++) {
    for (const int count : covered[i]) EXPECT_EQ(count, 1) << "parameter " << i;
  }
}

TEST(Routing, EveryElementBelongsToExactlyOneMatrix) {
  const ParameterTable table = small_table();
  const Routing routing = route(table, kAdamW);
  std::vector<const RoutedBatch*> batches;
  for (const auto& group : routing.groups) {
    for (const auto& batch : group.batches) batches.push_back(&batch);
  }
  expect_all_once(coverage(table, batches));
  EXPECT_EQ(routing.parameters, &table);
}

TEST(Routing, OnlyMatricesDecay) {
  const ParameterTable table = small_table();
  const Routing routing = route(table, kAdamW);
  ASSERT_EQ(routing.groups.size(), 2u);
  std::set<int> seen;
  for (const auto& group : routing.groups) {
    EXPECT_EQ(group.optimizer->name(), "adamw");
    EXPECT_EQ(group.optimizer->lr(), kAdamW.lr);
    for (const auto& batch : group.batches) {
      for (const MatrixSource& source : batch.sources) {
        const Parameter& p = table[source.parameter];
        EXPECT_EQ(group.optimizer->weight_decay(), p.shape.size() == 2 ? kAdamW.wd : 0.0) << p.name;
        EXPECT_TRUE(seen.insert(source.parameter).second) << p.name;
      }
    }
  }
  EXPECT_EQ(seen.size(), table.all().size());
}

TEST(Routing, OneBatchPerShape) {
  const ParameterTable table = small_table();
  const auto batches = batch_by_shape(table, all_of(table), Fused::whole);
  std::map<std::pair<int64_t, int64_t>, std::vector<std::string>> names;
  for (const auto& b : batches) {
    EXPECT_TRUE(names.emplace(std::pair(b.matrices.rows, b.matrices.cols), b.matrices.names).second)
        << "two batches";
    EXPECT_EQ(b.matrices.ld, b.matrices.cols);
  }
  EXPECT_EQ((names[{13, 6}]), (std::vector<std::string>{"wte.weight", "head.weight"}));
  EXPECT_EQ((names[{18, 6}]), (std::vector<std::string>{"h.0.qkv.weight", "h.1.qkv.weight"}));
  EXPECT_EQ((names[{1, 6}]), (std::vector<std::string>{"h.0.norm.weight", "h.1.norm.weight"}));
  EXPECT_EQ((names[{1, 18}]), (std::vector<std::string>{"h.0.qkv.bias", "h.1.qkv.bias"}));
}

TEST(Routing, FusedMatricesCanBeSplitByRows) {
  const ParameterTable table = small_table();
  const auto batches = batch_by_shape(table, all_of(table), Fused::split);
  std::vector<const RoutedBatch*> pointers;
  for (const auto& b : batches) pointers.push_back(&b);
  expect_all_once(coverage(table, pointers));
  for (const auto& b : batches) EXPECT_FALSE(b.matrices.rows == 18 && b.matrices.cols == 6) << "still fused";
  const auto square = std::find_if(batches.begin(), batches.end(), [](const RoutedBatch& b) {
    return b.matrices.rows == 6 && b.matrices.cols == 6;
  });
  ASSERT_NE(square, batches.end());
  EXPECT_EQ(square->matrices.names,
            (std::vector<std::string>{"h.0.qkv.weight.q", "h.0.qkv.weight.k", "h.0.qkv.weight.v",
                                      "h.0.proj.weight", "h.1.qkv.weight.q", "h.1.qkv.weight.k",
                                      "h.1.qkv.weight.v", "h.1.proj.weight"}));
  EXPECT_EQ(square->sources[2].parameter, 2);
  EXPECT_EQ(square->sources[2].first_row, 12);
}

// What has one row or column, in one of its parts even, is AdamW's, and so is what is no hidden matrix.
TEST(Routing, HiddenMatricesHaveMoreThanOneRowAndColumn) {
  ParameterTable table;
  table.add("least", {2, 2}, ParameterKind::matrix);
  table.add("row", {1, 6}, ParameterKind::matrix);
  table.add("column", {6, 1}, ParameterKind::matrix);
  table.add("fused", {5, 4}, ParameterKind::matrix, {{"a", 0, 3}, {"b", 3, 2}});
  table.add("thin", {4, 4}, ParameterKind::matrix, {{"a", 0, 3}, {"b", 3, 1}});
  table.add("embedding", {5, 4}, ParameterKind::embedding);
  table.add("head", {5, 4}, ParameterKind::head);
  const Routing routing = route(table, std::make_unique<optim::Muon>(optim::MuonOptions{}), kAdamW);
  std::map<std::string, std::set<std::string>> names;
  for (const auto& group : routing.groups) {
    for (const auto& batch : group.batches) {
      names[std::string(group.optimizer->name())].insert(batch.matrices.names.begin(),
                                                         batch.matrices.names.end());
    }
  }
  EXPECT_EQ(names["muon"], (std::set<std::string>{"least", "fused.a", "fused.b"}));
  EXPECT_EQ(names["adamw"], (std::set<std::string>{"row", "column", "thin", "embedding", "head"}));
}

TEST(Routing, GroupsWithoutParametersAreLeftOut) {
  ParameterTable table;
  table.add("w", {2, 3}, ParameterKind::matrix);
  EXPECT_EQ(route(table, kAdamW).groups.size(), 1u);
  EXPECT_EQ(route(ParameterTable(), kAdamW).groups.size(), 0u);
}

TEST(Routing, RefusesParametersOfMoreDimensions) {
  ParameterTable table;
  table.add("w", {2, 3, 4}, ParameterKind::matrix);
  EXPECT_THROW(route(table, kAdamW), Error);
}

}  // namespace
}  // namespace kiln::tests
