// Floating-point operations of each kernel call: a multiply-add counts as two; element-wise work counts nothing, as is
// the custom in model-flops formulas; causal attention counts the half that is computed.
#include "kernels/table.h"

namespace kiln::kernels {
namespace {

double product(int64_t a, int64_t b, int64_t c) {
  return 2.0 * static_cast<double>(a) * static_cast<double>(b) * static_cast<double>(c);
}

}  // namespace

double linear_forward_flops(const LinearForward& p) {
  return product(p.rows, p.N, p.K);
}
double linear_backward_input_flops(const LinearBackwardInput& p) {
  return product(p.rows, p.N, p.K);
}
double linear_backward_weight_flops(const LinearBackwardWeight& p) {
  return product(p.rows, p.N, p.K);
}

// Two products of T x T/2 x head_size per head; backward four (recomputing the scores is the kernel's own affair).
double attention_forward_flops(const AttentionForward& p) {
  return product(p.B * p.heads, p.T * p.T, p.head_size);
}
double attention_backward_flops(const AttentionBackward& p) {
  return 2 * product(p.B * p.heads, p.T * p.T, p.head_size);
}

double attention_decode_flops(const AttentionDecode& p) {
  return 2 * product(p.B * p.heads, p.length, p.head_size);
}

double attention_store_flops(const AttentionStore&) {
  return 0;
}
double embedding_forward_flops(const EmbeddingForward&) {
  return 0;
}
double embedding_backward_flops(const EmbeddingBackward&) {
  return 0;
}
double layernorm_forward_flops(const LayerNormForward&) {
  return 0;
}
double layernorm_backward_flops(const LayerNormBackward&) {
  return 0;
}
double rmsnorm_forward_flops(const RmsNormForward&) {
  return 0;
}
double rmsnorm_backward_flops(const RmsNormBackward&) {
  return 0;
}
double rotary_angles_flops(const RotaryAngles&) {
  return 0;
}
double rotary_flops(const Rotary&) {
  return 0;
}
double swiglu_forward_flops(const SwigluForward&) {
  return 0;
}
double swiglu_backward_flops(const SwigluBackward&) {
  return 0;
}
double gelu_forward_flops(const GeluForward&) {
  return 0;
}
double gelu_backward_flops(const GeluBackward&) {
  return 0;
}
double residual_forward_flops(const ResidualForward&) {
  return 0;
}
double softmax_cross_entropy_flops(const SoftmaxCrossEntropy&) {
  return 0;
}
double sum_of_squares_flops(const SumOfSquares&) {
  return 0;
}
double adamw_step_flops(const AdamWStep&) {
  return 0;
}
double set_zero_flops(const SetZero&) {
  return 0;
}

// Products are counted as they are computed: half of them where the result is symmetric.
double matrix_product_flops(const MatrixProduct& p) {
  return static_cast<double>(p.count) * product(p.M, p.N, p.K) * (p.symmetric ? 0.5 : 1);
}
// LAPACK's counts to leading order: gelqf and orglq together, Cholesky QR (two Gram matrices, two solves), syevd.
double matrix_qr_flops(const MatrixQr& p) {
  const double m = static_cast<double>(p.rows), n = static_cast<double>(p.cols);
  return static_cast<double>(p.count) * 2 * (2 * m * n * n - 2.0 / 3 * n * n * n);
}
double matrix_orthonormalise_flops(const MatrixOrthonormalise& p) {
  return static_cast<double>(p.count) * 2 * product(p.rows, p.cols, p.cols);
}
double matrix_eigen_flops(const MatrixEigen& p) {
  return static_cast<double>(p.count) * 4.5 * product(p.n, p.n, p.n);
}
double matrix_combine_flops(const MatrixCombine&) {
  return 0;
}
double matrix_normalise_flops(const MatrixNormalise&) {
  return 0;
}
double matrix_squares_flops(const MatrixSquares&) {
  return 0;
}
double matrix_scale_flops(const MatrixScale&) {
  return 0;
}
double weight_update_flops(const WeightUpdate&) {
  return 0;
}
double matrix_fill_flops(const MatrixFill&) {
  return 0;
}
double root_start_flops(const RootStart&) {
  return 0;
}
double identity_distance_flops(const IdentityDistance&) {
  return 0;
}
double kl_precondition_flops(const KlPrecondition&) {
  return 0;
}
double kl_eigenvalues_flops(const KlEigenvalues&) {
  return 0;
}
double seed_bases_flops(const SeedBases&) {
  return 0;
}
double pro_eigenvalues_flops(const ProEigenvalues&) {
  return 0;
}
double pro_tail_root_flops(const ProTailRoot&) {
  return 0;
}
double pro_complement_scale_flops(const ProComplementScale&) {
  return 0;
}
double pro_rotate_flops(const ProRotate&) {
  return 0;
}
double pro_tail_flops(const ProTail&) {
  return 0;
}

}  // namespace kiln::kernels
