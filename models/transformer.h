// The decoder-only transformer that the families are versions of: pre-norm blocks of causal self-attention and a
// feed-forward half on a residual stream, one more norm, and the LM head. models/families/ says what
// each of them computes and what its parameters are called.
//
// Memory in training, s bytes an element, R = B T tokens. Kept for the backward pass, bytes per token and layer:
//   residual stream before each half 2C s, outputs of both norms 2C s, queries, keys and values W s, output of attention
//   C s, before the activation F s (GELU) or 2F s (SwiGLU), after it F s; fp32: statistics of both norms 16 (layer norm)
//   or 8 (RMS norm), log-sum-exp of attention 4 NH.
// Besides, once: last residual stream 2C s with the last norm's output, 8 or 4 for its statistics, loss_rows Vp s of
// logits, and with rotary embedding 4 T C/NH of angles. Kept are the inputs of every linear layer, which the gradients of
// the weights need; nothing is computed twice. Gradients of activations replace the activations where these have been
// read for the last time; the two that cannot (of qkv and of attention's output) fall into memory that the feed-forward
// half of the same layer has left, if that is large enough (GELU's 2F >= 3C will do), so backward needs no more memory
// than the head's tick.
//
// With BatchShape::recompute only the residual stream before each block is kept, C s per token and layer; everything else
// inside of blocks exists once, and each block but the last (whose numbers are still there) is computed again before its
// backward pass, up to what that reads. Gradients are the same to the bit.
#pragma once

#include <memory>

#include "models/families/family.h"
#include "models/model.h"

namespace kiln::models {

// Throws Error(ExitCode::usage) on sizes that do not make a model.
std::unique_ptr<Model> create_transformer(const families::Family& family, const ModelShape& shape);

}  // namespace kiln::models
