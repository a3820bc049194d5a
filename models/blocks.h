// The pieces that every transformer here is made of: linear layers, norms, self-attention out of one fused
// projection, feed-forward layers, the LM head with its loss. Plain structs of parameter indices and planned buffers; each has
//   add_X    puts its parameters into the table            plan     adds its buffers to the plan
//   bind     points into the arena                         forward, backward
// and a model is a list of them, called in order. Letters: R = B T rows, C width, F inner width, V
// vocabulary, Vp padded.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kernels/linear.h"
#include "models/families/family.h"
#include "models/model.h"

namespace kiln::models {

// The clock of buffer lifetimes: the embedding runs at tick 0, the attention half of layer l at 2l + 1, its
// feed-forward half at 2l + 2, final norm and head at 2 layers + 1; the backward pass mirrors the forward
// pass.
struct Clock {
  int layers;
  static constexpr int embedding() { return 0; }
  static constexpr int attention(int layer) { return 2 * layer + 1; }
  static constexpr int feed_forward(int layer) { return 2 * layer + 2; }
  constexpr int head() const { return 2 * layers + 1; }
  constexpr int backward(int tick) const { return 2 * head() - tick; }
};

// Planning of one model: what to add to the plan, for which batch.
struct Planning {
  Plan& plan;
  BatchShape batch;
  DType dtype;
  const Device& device;
  Clock clock;
  // Set for buffers inside of blocks that are computed again on the way back: one set of them serves all layers. Names
  // without the layer's number to what is planned already.
  std::map<std::string, BufferId>* shared = nullptr;

  int64_t rows() const { return batch.B * batch.T; }

  // (R, columns), written at tick `written`. In training it lives until the backward pass comes back to tick
  // `until`, otherwise until `until` itself, should that be later than `written`.
  BufferId activation(const std::string& name, int64_t columns, int written, int until) const;
  // (R, columns) fp32 whatever the dtype, written and read at `tick`.
  BufferId statistic(const std::string& name, int64_t columns, int tick) const;
  // (R, columns) that exists only while the half-block of `tick` runs backward; empty without training.
  BufferId gradient(const std::string& name, int64_t columns, int tick) const;
  // A buffer of activations: one of its own, or with `shared` the one of all layers, for as long as blocks run.
  BufferId add(const std::string& name, size_t bytes, Lifetime lifetime) const;
  // (heads, cache, head_size) that outlives passes; empty where no cache is asked for.
  BufferId cache(const std::string& name, int64_t heads, int64_t head_size) const;
};

// One forward or backward pass. Every pointer is null in a dry run before memory exists, so nothing outside
// the kernels may look through one.
struct Pass {
  Context& context;
  const ParameterTable& parameters;
  const Arena* arena;  // null before bind
  DType dtype;
  int64_t B, T;

  // What the pass does with the caches of keys and values. fill: those of its first `cached` tokens become
  // positions 0, 1, ... there. extend: it is one token (B = T = 1), at position `cached`, which goes into the
  // caches and attends to all that is there.
  enum class Cache : uint8_t { untouched, fill, extend };
  Cache cache = Cache::untouched;
  int64_t cached = 0;
  const float* angles =
      nullptr;  // (T, 2, head_size/2) of the pass's positions, where there is rotary embedding

  int64_t first_position() const { return cache == Cache::extend ? cached : 0; }
  int64_t rows() const { return B * T; }
  void* at(BufferId id) const { return arena ? arena->at<void>(id) : nullptr; }
  float* statistic(BufferId id) const { return arena ? arena->at<float>(id) : nullptr; }
  const void* weight(int index) const { return index < 0 ? nullptr : parameters[index].weight; }
  float* gradient(int index) const { return index < 0 ? nullptr : parameters[index].gradient; }
};

// p + n, where null stays null.
template <class T>
T* advance(T* p, int64_t n) {
  return p ? p + n : nullptr;
}
inline void* advance(void* p, int64_t n, DType dtype) {
  return advance(static_cast<char*>(p), n * static_cast<int64_t>(size_of(dtype)));
}
inline const void* advance(const void* p, int64_t n, DType dtype) {
  return advance(static_cast<const char*>(p), n * static_cast<int64_t>(size_of(dtype)));
}

// to += from, (R, columns)
void add_residual(const Pass& pass, void* to, const void* from, int64_t columns);

// ---- linear: out (rows, N) = in (rows, K) W^T + bias ----
struct Linear {
  int weight = -1, bias = -1;  // (N, K), (N); bias -1: none
  int64_t N = 0, K = 0;
  BufferId storage = -1;
  kernels::PackedWeight packed;
};
// Parameters `name`.weight and `name`.bias.
Linear add_linear(ParameterTable& table, const std::string& name, int64_t N, int64_t K, bool bias,
                  std::vector<RowSplit> splits = {});
Linear linear_of(const ParameterTable& table,
                 int weight);  // of a matrix that is in the table already, no bias
void plan(Linear& linear, const Planning& planning, const ParameterTable& table);
void bind(Linear& linear, const ParameterTable& table, const Arena& arena);
void forward(const Pass& pass, Linear& linear, void* out, const void* in, int64_t rows);
// d_in may be the same memory as `in`: the gradient of the weight, which reads `in`, comes first.
void backward(const Pass& pass, Linear& linear, void* d_in, const void* d_out, const void* in, int64_t rows);

// ---- norm ----
using families::NormKind;
struct Norm {
  NormKind kind = NormKind::layer;
  int weight = -1, bias = -1;  // (C); an RMS norm has no bias
  int64_t C = 0;
  double eps = 0;
  BufferId out = -1;              // (R, C)
  BufferId mean = -1, rstd = -1;  // (R) fp32; an RMS norm has no mean
};
Norm add_norm(ParameterTable& table, const std::string& name, NormKind kind, int64_t C, double eps);
// `until`: how long norm.out lives, as in Planning::activation.
void plan(Norm& norm, const Planning& planning, const std::string& name, int tick, int until);
// norm.out (rows, C) = norm(in (rows, C)); returns it.
void* forward(const Pass& pass, const Norm& norm, const void* in, int64_t rows);
// d_residual: gradient of the stream that by-passes the branch that began at this norm, or null; d_in (R, C)
// may be the same memory as d_residual or d_out.
void backward(const Pass& pass, const Norm& norm, void* d_in, const void* d_out, const void* d_residual,
              const void* in);

// ---- causal self-attention: one fused projection to queries, keys, values; with `rotary` queries and keys are turned by
// their positions; attention; projection back ----
struct SelfAttention {
  Linear qkv;   // (R, C) -> (R, W), W = (heads + 2 kv_heads) head_size: rows of all queries, keys, values
  Linear proj;  // (R, heads head_size) -> (R, C)
  int64_t heads = 0, kv_heads = 0, head_size = 0;
  bool rotary = false;
  BufferId fused = -1;                  // (R, W)
  BufferId context = -1;                // (R, heads head_size): what attention puts out
  BufferId lse = -1;                    // (B, heads, T) fp32
  BufferId k_cache = -1, v_cache = -1;  // (kv_heads, capacity, head_size)
  int64_t capacity = 0;
  BufferId d_fused = -1, d_context = -1;
};
// Parameters `name`.qkv and `name`.proj.
SelfAttention add_self_attention(ParameterTable& table, const std::string& name, int64_t C, int64_t heads,
                                 int64_t kv_heads, bool bias, bool rotary);
void plan(SelfAttention& attention, const Planning& planning, const ParameterTable& table,
          const std::string& name, int tick);
void bind(SelfAttention& attention, const ParameterTable& table, const Arena& arena);
void forward(const Pass& pass, SelfAttention& attention, void* out, const void* in);
// d_in may be the same memory as `in`.
void backward(const Pass& pass, SelfAttention& attention, void* d_in, const void* d_out, const void* in);

// ---- feed-forward: up (C) -> (F), activation, down (F) -> (C) ----
using families::FeedForwardKind;
struct FeedForward {
  FeedForwardKind kind = FeedForwardKind::gelu;
  Linear up, down;
  BufferId inner = -1;   // (R, F) or (R, 2F): before the activation
  BufferId active = -1;  // (R, F)
};
// Parameters `up` and `down`.
FeedForward add_feed_forward(ParameterTable& table, FeedForwardKind kind, const std::string& up,
                             const std::string& down, int64_t C, int64_t F, bool bias);
void plan(FeedForward& block, const Planning& planning, const ParameterTable& table, const std::string& name,
          int tick);
void bind(FeedForward& block, const ParameterTable& table, const Arena& arena);
// As far as the activation, which is what the backward pass needs.
void forward_inside(const Pass& pass, FeedForward& block, const void* in);
void forward(const Pass& pass, FeedForward& block, void* out, const void* in);
// d_in may be the same memory as `in`.
void backward(const Pass& pass, FeedForward& block, void* d_in, const void* d_out, const void* in);

// ---- LM head and loss, in chunks of rows: the full (R, Vp) logits never exist ----
struct Head {
  Linear linear;  // (Vp, C), no bias
  int64_t V = 0;
  int64_t loss_rows = 0;
  BufferId logits = -1;  // (loss_rows, Vp)
};
void plan(Head& head, const Planning& planning, const ParameterTable& table);
// losses (R) of hidden (R, C). With a scale also backward, chunk by chunk while the logits are at hand: the
// gradient of scale * sum(losses) goes into the weight's gradient and takes the place of `hidden`.
void loss(const Pass& pass, Head& head, void* hidden, const int32_t* targets, float* losses,
          std::optional<float> gradient_scale);

}  // namespace kiln::models
