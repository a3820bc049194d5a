// Floating-point operations of each kernel call: a multiply-add counts as two; element-wise work counts nothing, as is
// the custom in model-flops formulas; causal attention counts the half that is computed.
#include "kernels/table.h"

namespace kiln::kernels {
namespace {

double product(int64_t a, int64_t b, int64_t c) {
  return 2.0 * static_cast<double>(a) * static_cast<double>(b) * static_cast<double>(c);
}

}  // namespace

double linear_forward_flops(const LinearForward& p) { return product(p.rows, p.N, p.K); }
double linear_backward_input_flops(const LinearBackwardInput& p) { return product(p.rows, p.N, p.K); }
double linear_backward_weight_flops(const LinearBackwardWeight& p) { return product(p.rows, p.N, p.K); }

// Two products of T x T/2 x head_size per head; backward four (recomputing the scores is the kernel's own affair).
double attention_forward_flops(const AttentionForward& p) {
  return product(p.B * p.heads, p.T * p.T, p.head_size);
}
double attention_backward_flops(const AttentionBackward& p) {
  return 2 * product(p.B * p.heads, p.T * p.T, p.head_size);
}

double embedding_forward_flops(const EmbeddingForward&) { return 0; }
double embedding_backward_flops(const EmbeddingBackward&) { return 0; }
double layernorm_forward_flops(const LayerNormForward&) { return 0; }
double layernorm_backward_flops(const LayerNormBackward&) { return 0; }
double gelu_forward_flops(const GeluForward&) { return 0; }
double gelu_backward_flops(const GeluBackward&) { return 0; }
double residual_forward_flops(const ResidualForward&) { return 0; }
double softmax_cross_entropy_flops(const SoftmaxCrossEntropy&) { return 0; }
double sum_of_squares_flops(const SumOfSquares&) { return 0; }
double adamw_step_flops(const AdamWStep&) { return 0; }
double set_zero_flops(const SetZero&) { return 0; }

}  // namespace kiln::kernels
