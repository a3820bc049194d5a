// Pro-KLShampoo: Sun and Wei, "Pro-KLShampoo: Projected KL-Shampoo with Whitening Recovered by
// Orthogonalization", arXiv 2605.06316, from its abstract and public summaries; what those leave open follows
// from the mathematics or is our choice and a config key (docs/optimizers.md tells which is which).
//
// KL-Shampoo whose right factor is restricted to R = U S U^T + mu (I - U U^T): full structure on a tracked
// subspace of r dimensions, one shared eigenvalue mu on the others. On these the momentum, whitened on the
// left, is orthogonalised, which restores the whitening that mu gave up: polar(S_a^(-1/2) M') = S_a^(-1/2) M'
// (M'^T S_a^-1 M')^(-1/2) with M' = M (I - U U^T).
#pragma once

#include "optim/kl_shampoo.h"
#include "optim/newton_schulz.h"

namespace kiln::optim {

enum class Orientation : uint8_t {
  larger,  // the larger side is the restricted one (of a square matrix the input side): W is transposed if it
           // is tall
  input,   // always the input side: the columns of W
};

enum class Complement : uint8_t {
  polar_left,  // NewtonSchulz(S_a^(-1/2) M (I - U U^T))
  polar,       // NewtonSchulz(M (I - U U^T))
  isotropic,   // mu^(-1/2) S_a^(-1/2) M (I - U U^T), not orthogonalised: the ablation
};

enum class ComplementScale : uint8_t {
  matched,  // sqrt((1-b1)/(1+b1)) sqrt(max(m, n-r)): the RMS of KL-Shampoo's own update
  graft,    // the Frobenius norm of the isotropic complement
  fixed,    // complement_factor sqrt(max(m, n-r))
};

enum class Tracker : uint8_t {
  orthogonal,  // every tracker_every steps one warm-started orthogonal iteration on b2 R + (1-b2) C
  accumulate,  // Y <- b2 Y + (1-b2) C U at every step, U = qr(Y) every tracker_every steps
};

struct ProKlShampooOptions {
  double lr = 0.005, b1 = 0.95, b2 = 0.95, wd = 0.1;  // as KL-Shampoo's
  int64_t refresh = 10;                               // T, of the left factor's basis
  Root root = Root::eigenbasis;
  int64_t rank = 128;  // r; a side smaller than that is not restricted
  Orientation orientation = Orientation::larger;
  Complement complement = Complement::polar_left;
  ComplementScale scale = ComplementScale::matched;
  double complement_factor = 0;  // with ComplementScale::fixed
  Tracker tracker = Tracker::orthogonal;
  int64_t tracker_every = 1;             // T_u
  const NewtonSchulzSet* set = nullptr;  // newton_schulz_set("polar_express")
  DType factors = DType::f32;            // of the Newton-Schulz products
};

// Below M, G are m x n with n the restricted side. The first gradient that is not zero seeds the statistics
// and changes nothing else: with s = rms(G_1), S_a = s I, Q_a = I, l_a = s; U = its top right singular
// vectors; S = s I, mu = s. Each later step, with the statistics of the step before:
//   1. M <- b1 M + (1-b1) G; X = S_a^(-1/2) M
//   2. D_1 = X U S^(-1/2) U^T
//   3. D_2 = c NewtonSchulz(X - X U U^T), projected once more; 0 where r = n or there is nothing but rounding
//   4. W <- W - lr (D_1 + D_2); W <- W - lr wd W
//   5. H = [G U S^(-1/2), (G - G U U^T) mu^(-1/2)]: S_a <- b2 S_a + (1-b2)/n H H^T;
//      l_a <- b2 l_a + (1-b2)/n diag(Q_a^T H H^T Q_a); where t is a multiple of `refresh`, Q_a <- qr(S_a Q_a)
//   6. tracker, with C = G^T S_a^-1 G/m: U' = qr(b2 U + (1-b2) C U S^-1), B = U'^T U,
//      S' = B S B^T + mu (I - B B^T), mu <- mu + (tr S - tr S')/(n-r), S <- S', U <- U'
//   7. Z = S_a^(-1/2) G U': S <- b2 S + (1-b2)/m Z^T Z;
//      mu <- b2 mu + (1-b2) (||S_a^(-1/2) G||_F^2 - ||Z||_F^2)/(m (n-r))
// With Root::newton_schulz the order is M, 5, 6, 7 with the roots of the old factors, then 1 to 4 with those
// of the new.
// State: M; S_a; U, S, mu; with the eigenbasis root Q_a, l_a; with the accumulating tracker Y.
class ProKlShampoo : public Optimizer {
 public:
  explicit ProKlShampoo(const ProKlShampooOptions& options) : options_(options) {}

  std::string_view name() const override { return "pro-kl-shampoo"; }
  double lr() const override { return options_.lr; }
  double weight_decay() const override { return options_.wd; }
  int64_t effective_rank(int64_t rows, int64_t cols) const override { return shape(rows, cols).r; }
  std::vector<StateSpec> state(int64_t rows, int64_t cols) const override;
  void step(Context& context, const MatrixBatch& batch, const StepInfo& info) override;

  const Events& events() const { return events_; }

 private:
  struct Shape {
    int64_t m, n, r;
    bool transposed;  // W is n x m
  };
  struct Roots {
    kernels::Matrices left;  // S_a^(-1/2), (m, m)
    kernels::Matrices core;  // S^(-1/2), (r, r)
    const double* tail;      // mu^(-1/2); 0 if r = n
  };

  Shape shape(int64_t rows, int64_t cols) const;
  size_t sum_index() const { return options_.root == Root::eigenbasis ? 7 : 5; }  // of Y
  Roots roots(Context& context, Scratch& scratch, const Slice& s);
  void oriented(Context& context, const Slice& s, kernels::Matrices out, kernels::ConstMatrices x, int64_t ld,
                double scale) const;
  void seed(Context& context, const Slice& s, const StepInfo& info);
  void update(Context& context, const Slice& s, const Roots& roots, const StepInfo& info);
  void add_complement(Context& context, const Slice& s, const Roots& roots, kernels::Matrices direction,
                      kernels::Matrices whitened, kernels::Matrices inside);
  void statistics(Context& context, const Slice& s, const Roots& roots, const StepInfo& info);
  void left_statistics(Context& context, const Slice& s, const Roots& roots, kernels::Matrices gradient,
                       kernels::Matrices rotated);
  void right_statistics(Context& context, const Slice& s, const Roots& roots, kernels::ConstMatrices whitened,
                        const StepInfo& info);
  void track(Context& context, const Slice& s, const Roots& roots, kernels::ConstMatrices whitened, bool due);
  void report(Context& context, const Slice& s, MetricSink* metrics) const;

  ProKlShampooOptions options_;
  Events events_;
  PhaseTimes times_;
};

}  // namespace kiln::optim
