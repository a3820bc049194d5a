// GPT-2. Source: Radford et al., "Language models are unsupervised multitask learners" (2019): a pre-norm
// transformer with learned positions, GELU (tanh form), biases everywhere, and the LM head tied to the token
// embedding. Those are its sizes as published; fewer heads of keys and values and an untied head (head.weight) are as in
// llama.h.
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
#pragma once

#include "models/families/family.h"

namespace kiln::families::gpt2 {

inline constexpr Family kFamily{
    .name = "gpt2",
    .summary = "learned positions, LayerNorm, GELU and biases",
    .norm = NormKind::layer,
    .feed_forward = FeedForwardKind::gelu,
    .positions = PositionKind::learned,
    .biases = true,
    .norm_name = "ln",
    .up_name = "mlp.fc",
    .down_name = "mlp.proj",
    .tied = true,
    .norm_eps = 1e-5,
    .ffn = [](int64_t width) { return 4 * width; },
    .ffn_summary = "four times model.width",
};

}  // namespace kiln::families::gpt2
