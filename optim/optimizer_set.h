// All optimizers of a run with their state.
#pragma once

#include <string>
#include <vector>

#include "optim/routing.h"

namespace kiln::optim {

// A tensor of optimizer state as checkpoints hold it, fp32, dense.
struct StateTensor {
  std::string name;  // matrix and state: "h.0.attn.qkv.weight.m"
  int64_t rows, cols;
  float* data = nullptr;  // set by bind()
  BufferId buffer = -1;   // set by plan()
};

class OptimizerSet {
 public:
  explicit OptimizerSet(Routing routing);

  // Plans every state tensor under its name, then points into the arena. The parameter table must be planned
  // with gradients, in fp32, and bound before.
  void plan(Plan& plan);
  void bind(const Arena& arena);

  // One update of every parameter, batch by batch; allocates nothing. The caller has made sure that the
  // gradients are finite, and tells the parameter table that the weights have changed
  // (ParameterTable::bump_versions). `seconds`, if given, gets what each group took added to its entry.
  void step(Context& context, const StepInfo& info, std::vector<double>* seconds = nullptr);

  const std::vector<RoutedGroup>& groups() const { return routing_.groups; }
  const std::vector<StateTensor>& state_tensors() const { return state_; }  // names are unique

  // The routing as a table for people: name, shape, number of matrices, optimizer, learning rate, weight
  // decay, the rank that statistics are restricted to; one line for all layers ("h.*.attn.qkv.weight"), each line ends in a newline.
  std::string describe() const;

 private:
  Routing routing_;
  std::vector<StateTensor> state_;  // by group, batch, StateSpec, matrix
};

}  // namespace kiln::optim
