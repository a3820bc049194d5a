// GPT-2. Source: Radford et al., "Language models are unsupervised multitask learners" (2019): a pre-norm
// transformer with learned positions, GELU (tanh form), biases everywhere, and the LM head tied to the token
// embedding.
//
// Parameters, l = 0 .. L-1:
//   wte.weight (Vp, C)    embedding and head           wpe.weight (context, C)
//   h.l.ln1.{weight,bias} (C)                          h.l.ln2.{weight,bias} (C)
//   h.l.attn.qkv.weight (3C, C), bias (3C)             h.l.mlp.fc.weight (F, C), bias (F)
//   h.l.attn.proj.weight (C, C), bias (C)              h.l.mlp.proj.weight (C, F), bias (C)
//   ln_f.{weight,bias} (C)
// The rows of qkv are q, k and v, C each.
// Rows V .. Vp-1 of wte are padding: they start at zero, the loss masks their logits, so their gradient is
// exactly zero and they stay zero.
//
// Memory in training, s bytes an element, R = B T tokens. Kept for the backward pass, bytes per token and
// layer:
//   residual stream before each half 2C s, outputs of both norms 2C s, qkv 3C s, output of attention C s,
//   before and after GELU 2F s; fp32: mean and rstd of both norms 16, log-sum-exp of attention 4 NH
//   = (8C + 2F) s + 4 (NH + 4), for F = 4C in fp32 some 64C.
// Besides, once: last residual stream 2C s with ln_f's output, 8 for its statistics, and loss_rows Vp s of
// logits. Kept are the inputs of every linear layer, which the gradients of the weights need; nothing is
// computed twice. Gradients of activations replace the activations where these have been read for the last
// time; the two that cannot (of qkv and of attention's output) fall into memory that the feed-forward half of
// the same layer has left, if that is large enough (2F >= 3C will do), so backward needs no more memory than
// the head's tick.
#pragma once

#include <memory>

#include "models/model.h"

namespace kiln::models {

// Throws Error(ExitCode::usage) on sizes that do not make a model.
std::unique_ptr<Model> create_gpt2(const ModelShape& shape);

}  // namespace kiln::models
