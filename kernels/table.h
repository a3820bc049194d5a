// The list of kernels, the table of their implementations, and the functions that the rest of Kiln calls.
//
// Every kernel has one signature, kernel(Context&, const Params&), where Params (in the family's header) holds plain
// pointers, sizes and dtypes. Beside each stands kernel_workspace_bytes(Params, Device): an upper bound of what it takes
// from Context::workspace, computed from the sizes alone (pointers may be null); and kernel_flops(Params).
#pragma once

#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/classifier.h"
#include "kernels/embedding.h"
#include "kernels/linear.h"
#include "kernels/matrix.h"
#include "kernels/norm.h"
#include "kernels/shampoo.h"
#include "kernels/update.h"
#include "src/device/context.h"

// X(function, parameter struct)
#define KILN_KERNELS(X)                            \
  X(embedding_forward, EmbeddingForward)           \
  X(embedding_backward, EmbeddingBackward)         \
  X(layernorm_forward, LayerNormForward)           \
  X(layernorm_backward, LayerNormBackward)         \
  X(linear_forward, LinearForward)                 \
  X(linear_backward_input, LinearBackwardInput)    \
  X(linear_backward_weight, LinearBackwardWeight)  \
  X(attention_forward, AttentionForward)           \
  X(attention_backward, AttentionBackward)         \
  X(attention_store, AttentionStore)               \
  X(attention_decode, AttentionDecode)             \
  X(gelu_forward, GeluForward)                     \
  X(gelu_backward, GeluBackward)                   \
  X(residual_forward, ResidualForward)             \
  X(softmax_cross_entropy, SoftmaxCrossEntropy)    \
  X(sum_of_squares, SumOfSquares)                  \
  X(adamw_step, AdamWStep)                         \
  X(set_zero, SetZero)                             \
  X(matrix_product, MatrixProduct)                 \
  X(matrix_combine, MatrixCombine)                 \
  X(matrix_normalise, MatrixNormalise)             \
  X(matrix_squares, MatrixSquares)                 \
  X(matrix_scale, MatrixScale)                     \
  X(weight_update, WeightUpdate)                   \
  X(matrix_fill, MatrixFill)                       \
  X(matrix_qr, MatrixQr)                           \
  X(matrix_orthonormalise, MatrixOrthonormalise)   \
  X(matrix_eigen, MatrixEigen)                     \
  X(root_start, RootStart)                         \
  X(identity_distance, IdentityDistance)           \
  X(kl_precondition, KlPrecondition)               \
  X(kl_eigenvalues, KlEigenvalues)                 \
  X(seed_bases, SeedBases)                         \
  X(pro_eigenvalues, ProEigenvalues)               \
  X(pro_tail_root, ProTailRoot)                    \
  X(pro_complement_scale, ProComplementScale)      \
  X(pro_rotate, ProRotate)                         \
  X(pro_tail, ProTail)

namespace kiln::kernels {

// One backend's implementations for one dtype; a null pointer is a hole.
struct KernelTable {
#define KILN_DECLARE(function, Params)                            \
  void (*function)(Context&, const Params&) = nullptr;            \
  size_t (*function##_workspace_bytes)(const Params&, const Device&) = nullptr;
  KILN_KERNELS(KILN_DECLARE)
#undef KILN_DECLARE
};

const KernelTable& table(DeviceKind device, Isa isa, DType dtype);

// The kernels. Each checks the table for a hole (refused by name), records itself in a dry run, or runs.
#define KILN_DECLARE(function, Params)              \
  void function(Context& context, const Params& p); \
  double function##_flops(const Params& p);
KILN_KERNELS(KILN_DECLARE)
#undef KILN_DECLARE

}  // namespace kiln::kernels
