#include "optim/routing.h"

#include <algorithm>
#include <utility>

#include "src/core/error.h"

namespace kiln::optim {
namespace {

void add_matrix(std::vector<RoutedBatch>& batches, std::string name, int64_t rows, int64_t cols,
                MatrixSource source) {
  auto batch = std::find_if(batches.begin(), batches.end(), [&](const RoutedBatch& b) {
    return b.matrices.rows == rows && b.matrices.cols == cols;
  });
  if (batch == batches.end()) {
    batch = batches.emplace(batches.end());
    batch->matrices.rows = rows;
    batch->matrices.cols = cols;
    batch->matrices.ld = cols;  // row blocks of a dense matrix are dense
  }
  batch->matrices.names.push_back(std::move(name));
  batch->sources.push_back(source);
}

bool decays(const Parameter& p) {
  return p.kind != ParameterKind::norm && p.kind != ParameterKind::bias;
}

// Of more than one row and column, in each of its parts.
bool is_hidden_matrix(const Parameter& p) {
  if (p.kind != ParameterKind::matrix || p.shape.size() != 2 || p.shape[0] < 2 || p.shape[1] < 2)
    return false;
  return std::all_of(p.splits.begin(), p.splits.end(), [](const RowSplit& s) { return s.rows > 1; });
}

}  // namespace

std::vector<RoutedBatch> batch_by_shape(const ParameterTable& table, std::span<const int> parameters,
                                        Fused fused) {
  std::vector<RoutedBatch> batches;
  for (const int index : parameters) {
    const Parameter& p = table[index];
    require(p.shape.size() == 1 || p.shape.size() == 2, "optimizers know vectors and matrices only");
    const int64_t cols = p.shape.back();
    if (fused == Fused::split && !p.splits.empty()) {
      for (const RowSplit& s : p.splits)
        add_matrix(batches, p.name + "." + s.name, s.rows, cols, {index, s.first});
    } else {
      add_matrix(batches, p.name, p.shape.size() == 1 ? 1 : p.shape[0], cols, {index, 0});
    }
  }
  return batches;
}

Routing route(const ParameterTable& table, const AdamWOptions& adamw) {
  return route(table, nullptr, adamw);
}

Routing route(const ParameterTable& table, std::unique_ptr<Optimizer> matrix, const AdamWOptions& adamw) {
  std::vector<int> hidden, decayed, undecayed;
  for (size_t i = 0; i < table.all().size(); i++) {
    const Parameter& p = table.all()[i];
    (matrix && is_hidden_matrix(p) ? hidden : decays(p) ? decayed : undecayed).push_back(static_cast<int>(i));
  }
  AdamWOptions without_decay = adamw;
  without_decay.wd = 0;
  Routing routing{.parameters = &table, .groups = {}};
  if (!hidden.empty()) {
    routing.groups.push_back({std::move(matrix), batch_by_shape(table, hidden, Fused::split)});
  }
  for (const auto& [parameters, options] :
       {std::pair{&decayed, adamw}, std::pair{&undecayed, without_decay}}) {
    if (parameters->empty()) continue;
    routing.groups.push_back(
        {std::make_unique<AdamW>(options), batch_by_shape(table, *parameters, Fused::whole)});
  }
  return routing;
}

}  // namespace kiln::optim
