// What every optimizer is: a declaration of its state per matrix, and one step over a batch of equal shapes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/metric_sink.h"
#include "src/device/context.h"

namespace kiln::optim {

// One tensor of optimizer state that belongs to one matrix: "m" becomes "h.0.attn.qkv.weight.m" in
// checkpoints.
struct StateSpec {
  std::string name;
  int64_t rows, cols;  // fp32
};

// Matrices of one shape, updated by one call. Vectors are 1 x n matrices. The pointers need not be
// contiguous.
struct MatrixBatch {
  int64_t rows = 0, cols = 0;
  int64_t ld = 0;  // elements between rows of param and grad
  std::vector<std::string> names;
  std::vector<float*> param;
  std::vector<const float*> grad;
  std::vector<std::vector<float*>> state;  // [StateSpec][matrix], dense

  int64_t count() const { return static_cast<int64_t>(names.size()); }
};

struct StepInfo {
  int64_t t;                      // optimizer steps so far, this one included
  double lr_multiplier;           // of the schedule
  double gradient_scale;          // of clipping: the gradient that counts is gradient_scale * grad
  MetricSink* metrics = nullptr;  // set: say how each matrix is doing
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  virtual std::string_view name() const = 0;
  virtual double lr() const = 0;  // before the schedule
  virtual double weight_decay() const = 0;

  // The rank to which the statistics of a rows x cols matrix are restricted; 0: they are not.
  virtual int64_t effective_rank(int64_t /*rows*/, int64_t /*cols*/) const { return 0; }

  // The state that one rows x cols matrix needs, exactly. It starts as zeros.
  virtual std::vector<StateSpec> state(int64_t rows, int64_t cols) const = 0;

  // Updates the parameters and the state of the whole batch; allocates nothing. In a dry run pointers may be
  // null, and every kind of call that any step makes is recorded.
  virtual void step(Context& context, const MatrixBatch& batch, const StepInfo& info) = 0;
};

}  // namespace kiln::optim
