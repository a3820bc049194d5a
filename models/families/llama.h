// LLaMA. Sources: Touvron et al., arXiv 2302.13971; grouped keys and values: Ainslie et al., arXiv 2305.13245. A pre-norm
// transformer with RMS norms, rotary positions, SwiGLU, no biases, and an LM head of its own unless it is tied.
//
// Parameters, l = 0 .. L-1, HS = C / NH, KV = kv_heads HS:
//   wte.weight (Vp, C)                                 head.weight (Vp, C), unless tied
//   h.l.norm1.weight (C)                               h.l.norm2.weight (C)
//   h.l.attn.qkv.weight (C + 2 KV, C)                  h.l.mlp.gate_up.weight (2F, C)
//   h.l.attn.proj.weight (C, C)                        h.l.mlp.down.weight (C, F)
//   norm_f.weight (C)
// The rows of qkv are q (C), k and v (KV each); those of gate_up are gate and up, F each. Rows V .. Vp-1 of wte and head
// are padding: they start at zero, no token reads them, the loss masks their logits, so they stay zero.
#pragma once

#include "models/families/family.h"
#include "src/core/shape.h"

namespace kiln::families::llama {

inline constexpr Family kFamily{
    .name = "llama",
    .summary = "rotary positions, RMSNorm, SwiGLU and no biases",
    .norm = NormKind::rms,
    .feed_forward = FeedForwardKind::swiglu,
    .positions = PositionKind::rotary,
    .biases = false,
    .norm_name = "norm",
    .up_name = "mlp.gate_up",
    .down_name = "mlp.down",
    .tied = false,
    .norm_eps = 1e-6,
    .ffn = [](int64_t width) { return round_up(ceil_div(8 * width, 3), 256); },
    .ffn_summary = "8/3 of model.width, rounded up to a multiple of 256",
};

}  // namespace kiln::families::llama
