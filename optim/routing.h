// Which optimizer updates which parameter.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "optim/adamw.h"
#include "optim/optimizer.h"
#include "src/device/parameters.h"

namespace kiln::optim {

// Where a matrix of a batch lies: rows [first_row, first_row + rows of the batch) of a parameter.
struct MatrixSource {
  int parameter;  // index into the table
  int64_t first_row;
};

struct RoutedBatch {
  MatrixBatch matrices;  // the pointers are set once there is memory
  std::vector<MatrixSource> sources;
};

struct RoutedGroup {
  std::unique_ptr<Optimizer> optimizer;
  std::vector<RoutedBatch>
      batches;  // one per shape, in the order in which the shapes first occur in the table
};

struct Routing {
  const ParameterTable* parameters;  // must outlive the routing
  std::vector<RoutedGroup> groups;
};

enum class Fused : uint8_t {
  whole,  // a fused matrix is one matrix
  split,  // each of its row splits is a matrix of its own, named "parameter.split"
};

// Sorts parameters (indices into the table) into batches of equal shapes. Parameters have one or two
// dimensions.
std::vector<RoutedBatch> batch_by_shape(const ParameterTable& table, std::span<const int> parameters,
                                        Fused fused);

// Everything to AdamW: weight decay on matrices, embeddings and the head, none on norms and biases. A group
// without parameters is left out.
Routing route(const ParameterTable& table, const AdamWOptions& adamw);

// Hidden matrices to `matrix`, fused ones split into their parts; embeddings, head, norms, biases, and matrices of one
// row or column to AdamW, as above.
Routing route(const ParameterTable& table, std::unique_ptr<Optimizer> matrix, const AdamWOptions& adamw);

}  // namespace kiln::optim
