// What the trainer knows of a model, whatever its family.
//
// Order of calls: parameters().plan and plan on one Plan; an Arena of it; parameters().bind, then bind;
// initialise (or weights from a file); passes. Between plan and bind the passes already run dry
// (Context::dry_run) with null pointers, which is how flops and workspace are found before any memory exists.
#pragma once

#include <cstdint>

#include "src/device/context.h"
#include "src/device/parameters.h"

namespace kiln::models {

// The sizes that define a transformer; every family reads what it needs.
struct ModelShape {
  int64_t layers = 0;
  int64_t width = 0;         // C
  int64_t heads = 0;         // NH
  int64_t kv_heads = 0;      // of keys and values; heads is a multiple of it; 0: as many as heads
  int64_t ffn = 0;           // F: inner width of the feed-forward block
  int64_t vocab = 0;         // V: token ids that exist
  int64_t padded_vocab = 0;  // Vp >= V: rows of the embedding and columns of the logits
  int64_t context = 0;       // longest sequence
  bool tied = true;          // the head is the token embedding
  double norm_eps = 0;       // added to the variance, or the mean square, of norms
  double rope_theta = 0;     // base of the rotary wave lengths, where the family has them
};

// What a model is planned for.
struct BatchShape {
  int64_t B = 0, T = 0;   // sequences, tokens each
  int64_t loss_rows = 0;  // rows of logits that exist at a time
  bool training = true;   // false: no gradients, no activations kept
  bool recompute =
      false;          // in training: keep a block's input alone and compute the block again on the way back
  int64_t cache = 0;  // positions whose keys and values decode() can look back on; 0: no generation
};

class Model {
 public:
  virtual ~Model() = default;

  virtual ParameterTable& parameters() = 0;

  // Plans activations and packed weights (parameters are planned through their table), then points into the
  // arena, which must outlive the model's passes. A shape or dtype that the family cannot do throws
  // Error(ExitCode::usage).
  virtual void plan(Plan& plan, const BatchShape& shape, DType dtype, const Device& device) = 0;
  virtual void bind(const Arena& arena) = 0;

  // Draws all masters from `seed`; the same on every device, for any number of threads or ranks. Writes
  // through the pointers of the table on the context's threads: the memory must be the host's. Bumps the
  // versions.
  virtual void initialise(Context& context, uint64_t seed) = 0;

  // Forward and backward on tokens, targets (B, T), B and T at most as planned. losses (B, T) receives the
  // loss of each token in nats; gradients are accumulated, those of scale * sum(losses). A target < 0: loss
  // 0, no gradient.
  virtual void forward_backward(Context& context, const int32_t* tokens, const int32_t* targets, int64_t B,
                                int64_t T, float scale, float* losses) = 0;

  // Forward only.
  virtual void forward(Context& context, const int32_t* tokens, const int32_t* targets, int64_t B, int64_t T,
                       float* losses) = 0;

  // Generation, of one sequence, in a model planned with a cache: prefill() takes a beginning, in place of
  // whatever the cache holds, decode() one token more, which costs one token's work and a look at the cache.
  // Both write the logits (Vp) that follow their last token; columns V .. Vp-1 mean nothing.
  //
  // The first `count` of T tokens, T and count at most as planned; those behind them do not matter (so that
  // prompts of any length may come in a few shapes).
  virtual void prefill(Context& context, const int32_t* tokens, int64_t T, int64_t count, float* logits) = 0;
  // The token at `position`, which is the number of tokens in the cache, below BatchShape::cache.
  virtual void decode(Context& context, const int32_t* token, int64_t position, float* logits) = 0;
};

}  // namespace kiln::models
