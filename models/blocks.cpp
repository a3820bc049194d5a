#include "models/blocks.h"

#include <algorithm>
#include <cmath>

#include "kernels/table.h"

namespace kiln::models {

// ---- planning ----

BufferId Planning::activation(const std::string& name, int64_t columns, int written, int until) const {
  const size_t bytes = static_cast<size_t>(rows() * columns) * size_of(dtype);
  const int last = batch.training ? clock.backward(until) : std::max(written, until);
  return plan.add(name, Category::activations, bytes, {written, last});
}

BufferId Planning::statistic(const std::string& name, int64_t columns, int tick) const {
  const size_t bytes = static_cast<size_t>(rows() * columns) * sizeof(float);
  return plan.add(name, Category::activations, bytes, {tick, batch.training ? clock.backward(tick) : tick});
}

BufferId Planning::gradient(const std::string& name, int64_t columns, int tick) const {
  const size_t bytes = batch.training ? static_cast<size_t>(rows() * columns) * size_of(dtype) : 0;
  return plan.add(name, Category::activations, bytes, {clock.backward(tick), clock.backward(tick)});
}

BufferId Planning::cache(const std::string& name, int64_t heads, int64_t head_size) const {
  const size_t bytes = static_cast<size_t>(heads * batch.cache * head_size) * size_of(dtype);
  return plan.add(name, Category::activations, bytes);
}

void add_residual(const Pass& pass, void* to, const void* from, int64_t columns) {
  kernels::residual_forward(pass.context,
                            {.out = to, .a = to, .b = from, .n = pass.rows() * columns, .dtype = pass.dtype});
}

// ---- linear ----

Linear add_linear(ParameterTable& table, const std::string& name, int64_t N, int64_t K, bool bias,
                  std::vector<RowSplit> splits) {
  Linear linear;
  linear.weight = table.add(name + ".weight", {N, K}, ParameterKind::matrix, std::move(splits));
  if (bias) linear.bias = table.add(name + ".bias", {N}, ParameterKind::bias);
  linear.N = N;
  linear.K = K;
  return linear;
}

Linear tied_linear(const ParameterTable& table, int weight) {
  Linear linear;
  linear.weight = weight;
  linear.N = table[weight].shape[0];
  linear.K = table[weight].shape[1];
  return linear;
}

void plan(Linear& linear, const Planning& planning, const ParameterTable& table) {
  const size_t bytes = kernels::packed_weight_bytes(linear.N, linear.K, planning.dtype, planning.device,
                                                    planning.batch.training);
  linear.storage = planning.plan.add(table[linear.weight].name + ".packed", Category::packed_weights, bytes);
  linear.packed = {};
  linear.packed.N = linear.N;
  linear.packed.K = linear.K;
  linear.packed.dtype = planning.dtype;
}

void bind(Linear& linear, const ParameterTable& table, const Arena& arena) {
  linear.packed.weight = table[linear.weight].weight;
  linear.packed.version = &table[linear.weight].version;
  linear.packed.storage = arena.at<void>(linear.storage);
  linear.packed.forward_version = linear.packed.backward_version = 0;
}

void forward(const Pass& pass, Linear& linear, void* out, const void* in, int64_t rows) {
  kernels::linear_forward(pass.context, {.out = out,                        // (rows, N)
                                         .in = in,                          // (rows, K)
                                         .weight = &linear.packed,          // (N, K)
                                         .bias = pass.weight(linear.bias),  // (N)
                                         .rows = rows,
                                         .N = linear.N,
                                         .K = linear.K,
                                         .ld_out = linear.N,
                                         .dtype = pass.dtype});
}

void backward(const Pass& pass, Linear& linear, void* d_in, const void* d_out, const void* in, int64_t rows) {
  kernels::linear_backward_weight(pass.context, {.d_weight = pass.gradient(linear.weight),  // (N, K) +=
                                                 .d_bias = pass.gradient(linear.bias),      // (N) +=
                                                 .d_out = d_out,                            // (rows, N)
                                                 .in = in,                                  // (rows, K)
                                                 .rows = rows,
                                                 .N = linear.N,
                                                 .K = linear.K,
                                                 .ld_out = linear.N,
                                                 .dtype = pass.dtype});
  kernels::linear_backward_input(pass.context, {.d_in = d_in,    // (rows, K)
                                                .d_out = d_out,  // (rows, N)
                                                .weight = &linear.packed,
                                                .rows = rows,
                                                .N = linear.N,
                                                .K = linear.K,
                                                .ld_out = linear.N,
                                                .accumulate = false,
                                                .dtype = pass.dtype});
}

// ---- layer norm ----

LayerNorm add_layer_norm(ParameterTable& table, const std::string& name, int64_t C) {
  LayerNorm norm;
  norm.weight = table.add(name + ".weight", {C}, ParameterKind::norm);
  norm.bias = table.add(name + ".bias", {C}, ParameterKind::bias);
  norm.C = C;
  return norm;
}

void plan(LayerNorm& norm, const Planning& planning, const std::string& name, int tick, int until) {
  norm.out = planning.activation(name, norm.C, tick, until);
  norm.mean = planning.statistic(name + ".mean", 1, tick);
  norm.rstd = planning.statistic(name + ".rstd", 1, tick);
}

void* forward(const Pass& pass, const LayerNorm& norm, const void* in, int64_t rows) {
  constexpr float kEps = 1e-5f;
  void* out = pass.at(norm.out);
  kernels::layernorm_forward(pass.context, {.out = out,                         // (rows, C)
                                            .mean = pass.statistic(norm.mean),  // (rows)
                                            .rstd = pass.statistic(norm.rstd),  // (rows)
                                            .in = in,                           // (rows, C)
                                            .weight = pass.weight(norm.weight),
                                            .bias = pass.weight(norm.bias),
                                            .rows = rows,
                                            .C = norm.C,
                                            .eps = kEps,
                                            .dtype = pass.dtype});
  return out;
}

void backward(const Pass& pass, const LayerNorm& norm, void* d_in, const void* d_out, const void* d_residual,
              const void* in) {
  kernels::layernorm_backward(pass.context, {.d_in = d_in,                            // (R, C)
                                             .d_weight = pass.gradient(norm.weight),  // (C) +=
                                             .d_bias = pass.gradient(norm.bias),      // (C) +=
                                             .d_out = d_out,                          // (R, C)
                                             .d_residual = d_residual,                // (R, C)
                                             .in = in,                                // (R, C)
                                             .mean = pass.statistic(norm.mean),
                                             .rstd = pass.statistic(norm.rstd),
                                             .weight = pass.weight(norm.weight),
                                             .rows = pass.rows(),
                                             .C = norm.C,
                                             .dtype = pass.dtype});
}

// ---- self-attention ----

SelfAttention add_self_attention(ParameterTable& table, const std::string& name, int64_t C, int64_t heads,
                                 int64_t kv_heads, bool bias) {
  SelfAttention attention;
  attention.heads = heads;
  attention.kv_heads = kv_heads;
  attention.head_size = C / heads;
  const int64_t queries = heads * attention.head_size, keys = kv_heads * attention.head_size;
  attention.qkv = add_linear(table, name + ".qkv", queries + 2 * keys, C, bias,
                             {{"q", 0, queries}, {"k", queries, keys}, {"v", queries + keys, keys}});
  attention.proj = add_linear(table, name + ".proj", C, queries, bias);
  return attention;
}

void plan(SelfAttention& attention, const Planning& planning, const ParameterTable& table,
          const std::string& name, int tick) {
  plan(attention.qkv, planning, table);
  plan(attention.proj, planning, table);
  attention.fused = planning.activation(name + ".qkv", attention.qkv.N, tick, tick);
  attention.context = planning.activation(name + ".out", attention.proj.K, tick, tick);
  attention.lse = planning.statistic(name + ".lse", attention.heads, tick);
  attention.k_cache = planning.cache(name + ".k_cache", attention.kv_heads, attention.head_size);
  attention.v_cache = planning.cache(name + ".v_cache", attention.kv_heads, attention.head_size);
  attention.capacity = planning.batch.cache;
  attention.d_fused = planning.gradient(name + ".d_qkv", attention.qkv.N, tick);
  attention.d_context = planning.gradient(name + ".d_out", attention.proj.K, tick);
}

void bind(SelfAttention& attention, const ParameterTable& table, const Arena& arena) {
  bind(attention.qkv, table, arena);
  bind(attention.proj, table, arena);
}

namespace {

// Queries, keys and values of a fused projection: where each begins in a row of W elements.
struct FusedSlices {
  void *q, *k, *v;
};

FusedSlices slices(const SelfAttention& attention, void* fused, DType dtype) {
  const int64_t queries = attention.heads * attention.head_size,
                keys = attention.kv_heads * attention.head_size;
  return {fused, advance(fused, queries, dtype), advance(fused, queries + keys, dtype)};
}

float score_scale(const SelfAttention& attention) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(attention.head_size)));
}

// Keys and values of the pass's tokens, as far as they count, into the cache.
void store(const Pass& pass, const SelfAttention& attention, const FusedSlices& in) {
  const bool fill = pass.cache == Pass::Cache::fill;
  kernels::attention_store(pass.context,
                           {.k_cache = pass.at(attention.k_cache),  // (1, kv_heads, capacity, head_size)
                            .v_cache = pass.at(attention.v_cache),
                            .k = in.k,  // (1, T, kv_heads, head_size), the first of the pass's
                            .v = in.v,
                            .B = 1,
                            .T = fill ? pass.cached : 1,
                            .kv_heads = attention.kv_heads,
                            .head_size = attention.head_size,
                            .capacity = attention.capacity,
                            .position = pass.first_position(),
                            .k_stride = attention.qkv.N,
                            .v_stride = attention.qkv.N,
                            .dtype = pass.dtype});
}

void attend_to_cache(const Pass& pass, const SelfAttention& attention, void* out, const void* q) {
  kernels::attention_decode(pass.context,
                            {.out = out,  // (1, heads, head_size)
                             .q = q,
                             .k = pass.at(attention.k_cache),  // (1, kv_heads, capacity, head_size)
                             .v = pass.at(attention.v_cache),
                             .B = 1,
                             .heads = attention.heads,
                             .kv_heads = attention.kv_heads,
                             .head_size = attention.head_size,
                             .capacity = attention.capacity,
                             .length = pass.cached + 1,
                             .q_stride = attention.qkv.N,
                             .scale = score_scale(attention),
                             .dtype = pass.dtype});
}

void attend_to_pass(const Pass& pass, const SelfAttention& attention, void* out, const FusedSlices& in) {
  kernels::attention_forward(pass.context, {.out = out,                            // (B, T, heads, head_size)
                                            .lse = pass.statistic(attention.lse),  // (B, heads, T)
                                            .q = in.q,
                                            .k = in.k,
                                            .v = in.v,
                                            .B = pass.B,
                                            .T = pass.T,
                                            .heads = attention.heads,
                                            .kv_heads = attention.kv_heads,
                                            .head_size = attention.head_size,
                                            .q_stride = attention.qkv.N,
                                            .k_stride = attention.qkv.N,
                                            .v_stride = attention.qkv.N,
                                            .scale = score_scale(attention),
                                            .dtype = pass.dtype});
}

}  // namespace

void forward(const Pass& pass, SelfAttention& attention, void* out, const void* in) {
  void* fused = pass.at(attention.fused);
  void* context = pass.at(attention.context);
  forward(pass, attention.qkv, fused, in, pass.rows());  // (R, C) -> (R, W)
  const FusedSlices qkv = slices(attention, fused, pass.dtype);
  if (pass.cache != Pass::Cache::untouched) store(pass, attention, qkv);
  if (pass.cache == Pass::Cache::extend) {
    attend_to_cache(pass, attention, context, qkv.q);
  } else {
    attend_to_pass(pass, attention, context, qkv);
  }
  forward(pass, attention.proj, out, context, pass.rows());  // (R, heads head_size) -> (R, C)
}

void backward(const Pass& pass, SelfAttention& attention, void* d_in, const void* d_out, const void* in) {
  const void* context = pass.at(attention.context);
  void* d_context = pass.at(attention.d_context);
  void* d_fused = pass.at(attention.d_fused);
  backward(pass, attention.proj, d_context, d_out, context, pass.rows());  // (R, C) -> (R, heads head_size)
  const auto [q, k, v] = slices(attention, pass.at(attention.fused), pass.dtype);
  const auto [d_q, d_k, d_v] = slices(attention, d_fused, pass.dtype);
  kernels::attention_backward(pass.context, {.d_q = d_q,
                                             .d_k = d_k,
                                             .d_v = d_v,
                                             .d_out = d_context,  // (B, T, heads, head_size)
                                             .out = context,      // (B, T, heads, head_size)
                                             .lse = pass.statistic(attention.lse),  // (B, heads, T)
                                             .q = q,
                                             .k = k,
                                             .v = v,
                                             .B = pass.B,
                                             .T = pass.T,
                                             .heads = attention.heads,
                                             .kv_heads = attention.kv_heads,
                                             .head_size = attention.head_size,
                                             .q_stride = attention.qkv.N,
                                             .k_stride = attention.qkv.N,
                                             .v_stride = attention.qkv.N,
                                             .scale = score_scale(attention),
                                             .dtype = pass.dtype});
  backward(pass, attention.qkv, d_in, d_fused, in, pass.rows());  // (R, W) -> (R, C)
}

// ---- head ----

void plan(Head& head, const Planning& planning, const ParameterTable& table) {
  plan(head.linear, planning, table);
  head.loss_rows = std::min(planning.batch.loss_rows, planning.rows());
  const size_t bytes = static_cast<size_t>(head.loss_rows * head.linear.N) * size_of(planning.dtype);
  head.logits = planning.plan.add("logits", Category::activations, bytes,
                                  {planning.clock.head(), planning.clock.head()});
}

void loss(const Pass& pass, Head& head, void* hidden, const int32_t* targets, float* losses,
          std::optional<float> gradient_scale) {
  void* logits = pass.at(head.logits);
  for (int64_t first = 0; first < pass.rows(); first += head.loss_rows) {
    const int64_t rows = std::min(head.loss_rows, pass.rows() - first);
    void* chunk = advance(hidden, first * head.linear.K, pass.dtype);  // (rows, C)
    forward(pass, head.linear, logits, chunk, rows);                   // (rows, C) -> (rows, Vp)
    kernels::softmax_cross_entropy(pass.context, {.logits = logits,    // (rows, Vp), then d_logits
                                                  .losses = advance(losses, first),    // (rows)
                                                  .targets = advance(targets, first),  // (rows)
                                                  .rows = rows,
                                                  .V = head.V,
                                                  .Vp = head.linear.N,
                                                  .ld = head.linear.N,
                                                  .scale = gradient_scale.value_or(0.0f),
                                                  .write_gradient = gradient_scale.has_value(),
                                                  .dtype = pass.dtype});
    if (gradient_scale) backward(pass, head.linear, chunk, logits, chunk, rows);  // (rows, Vp) -> (rows, C)
  }
}

}  // namespace kiln::models
