// KL-Shampoo: Lin, Lowe, Dangel, Eschenhagen, Xu, Grosse, "Understanding and improving Shampoo and SOAP via
// Kullback-Leibler minimization", arXiv 2509.03378.
//
// The factors minimise the KL divergence between zero-mean Gaussians with covariance E[g g^T] and S_a (x)
// S_b, which couples them: S_a = E[G S_b^-1 G^T]/n, S_b = E[G^T S_a^-1 G]/m, for m x n matrices.
#pragma once

#include "optim/matrix_root.h"
#include "optim/optimizer.h"
#include "optim/report.h"

namespace kiln::optim {

enum class Root : uint8_t {
  eigenbasis,  // Q l^(-1/2) Q^T with a basis that one power step every `refresh` steps turns after the factor
  newton_schulz,  // from the factor itself, every step, by matrix products alone (Zhang et al. 2026)
};

enum class Init : uint8_t {
  gradient,  // l_a = l_b = rms(G_1), so that l_a l_b = mean(G_1^2): our choice
  constant,  // as published: l = 0.1, and l >= 1/clamp^2 after each update, clamp = max(10, min(side, 4000))
};

struct KlShampooOptions {
  double lr = 0.005;     // before the schedule's multiplier
  double b1 = 0.95;      // what the momentum keeps per step
  double b2 = 0.95;      // what the factors keep
  double eps = 1e-8;     // added to the root of l_a l_b
  double wd = 0.1;       // decoupled
  int64_t refresh = 10;  // T: steps between two refreshes of the bases
  Root root = Root::eigenbasis;
  Init init =
      Init::gradient;  // with Root::newton_schulz only `gradient`: the factors then start as rms(G_1) I
  int64_t tail_rank =
      0;  // reports say how flat the factors' spectra are past so many eigenvalues; 0: they do not
};

// The first gradient that is not zero seeds the statistics and changes nothing else:
//   S_a = (1-b2) G G^T/n, S_b = (1-b2) G^T G/m; bases as kernels::SeedBases says; l by `init`.
// Each later step, all statistics on right-hand sides being the old ones:
//   1. M <- b1 M + (1-b1) G
//   2. D = Q_a ((Q_a^T M Q_b)_ij / (sqrt(l_a,i l_b,j) + eps)) Q_b^T
//   3. S_a <- b2 S_a + (1-b2)/n (G Q_b l_b^(-1/2))(.)^T; S_b <- b2 S_b + (1-b2)/m (l_a^(-1/2) Q_a^T G)^T(.)
//   4. K = Q_a^T G Q_b; l_a,i <- b2 l_a,i + (1-b2) mean_j K_ij^2/l_b,j; l_b,j likewise
//   5. where t is a multiple of `refresh`: Q_a <- qr(S_a Q_a), Q_b <- qr(S_b Q_b)
//   6. W <- W - lr D; W <- W - lr wd W
// With Root::newton_schulz, instead of 2 to 5 and with the roots R = S^(-1/2) of the old factors:
//   S_a <- b2 S_a + (1-b2)/n (G R_b)(.)^T; S_b <- b2 S_b + (1-b2)/m (R_a G)^T(.);
//   then D = R_a M R_b with the roots of the new ones (eps does not enter).
// State: M; S_a, S_b; Q_a, Q_b; l_a, l_b; with Root::newton_schulz only M, S_a, S_b.
class KlShampoo : public Optimizer {
 public:
  explicit KlShampoo(const KlShampooOptions& options);

  std::string_view name() const override { return "kl-shampoo"; }
  double lr() const override { return options_.lr; }
  double weight_decay() const override { return options_.wd; }
  std::vector<StateSpec> state(int64_t rows, int64_t cols) const override;
  void step(Context& context, const MatrixBatch& batch, const StepInfo& info) override;

  const Events& events() const { return events_; }

 private:
  void seed(Context& context, const Slice& s, const double* squares, const StepInfo& info);
  void update(Context& context, const Slice& s, const StepInfo& info);
  void statistics(Context& context, const Slice& s, const StepInfo& info);
  void update_by_roots(Context& context, const Slice& s, const StepInfo& info);
  void statistics_by_roots(Context& context, const Slice& s, const StepInfo& info);
  void report_factors(Context& context, const Slice& s, MetricSink* metrics);
  void apply(Context& context, const Slice& s, kernels::ConstMatrices direction, const StepInfo& info);

  KlShampooOptions options_;
  Events events_;
  PhaseTimes times_;
  double report_seconds_ = 0;  // of the tails
};

}  // namespace kiln::optim
