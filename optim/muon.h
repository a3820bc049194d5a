// Muon: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024).
#pragma once

#include "optim/newton_schulz.h"
#include "optim/optimizer.h"

namespace kiln::optim {

enum class MuonScale : uint8_t {
  match_rms,  // 0.2 sqrt(max(m, n)): the update's RMS is about 0.2, so learning rates of AdamW carry over
  spectral,   // sqrt(max(1, m/n))
};

struct MuonOptions {
  double lr = 0.01;  // before the schedule's multiplier
  double mu = 0.95;  // what the momentum keeps per step, in [0, 1)
  double wd = 0.1;   // decoupled
  bool nesterov = true;
  MuonScale scale = MuonScale::match_rms;
  const NewtonSchulzSet* set = nullptr;  // newton_schulz_set("jordan")
  DType factors = DType::f32;            // of the Newton-Schulz products
};

// With G the clipped gradient of an m x n matrix:
// M <- mu M + (1-mu) G; N = (1-mu) G + mu M, or M without Nesterov; W <- (1 - lr wd) W - lr scale
// NewtonSchulz(N). State: M.
class Muon : public Optimizer {
 public:
  explicit Muon(const MuonOptions& options) : options_(options) {}

  std::string_view name() const override { return "muon"; }
  double lr() const override { return options_.lr; }
  double weight_decay() const override { return options_.wd; }
  std::vector<StateSpec> state(int64_t rows, int64_t cols) const override;
  void step(Context& context, const MatrixBatch& batch, const StepInfo& info) override;

 private:
  MuonOptions options_;
};

}  // namespace kiln::optim
