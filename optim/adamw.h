// AdamW: Loshchilov and Hutter, "Decoupled weight decay regularization", arXiv 1711.05101.
#pragma once

#include "optim/optimizer.h"

namespace kiln::optim {

struct AdamWOptions {
  double lr;      // before the schedule's multiplier
  double b1, b2;  // what the averages of g and g^2 keep per step, each in [0, 1)
  double eps;     // added to the root of the second moment
  double wd;      // decoupled: the parameter shrinks by lr * wd of itself per step
};

// With g the clipped gradient and lr the scheduled learning rate:
// m <- b1 m + (1-b1) g; v <- b2 v + (1-b2) g^2; W <- (1 - lr wd) W - lr (m/(1-b1^t)) / (sqrt(v/(1-b2^t)) +
// eps). State: m and v, as large as the matrix.
class AdamW : public Optimizer {
 public:
  explicit AdamW(const AdamWOptions& options) : options_(options) {}

  std::string_view name() const override { return "adamw"; }
  double lr() const override { return options_.lr; }
  double weight_decay() const override { return options_.wd; }
  std::vector<StateSpec> state(int64_t rows, int64_t cols) const override;
  void step(Context& context, const MatrixBatch& batch, const StepInfo& info) override;

 private:
  AdamWOptions options_;
};

}  // namespace kiln::optim
