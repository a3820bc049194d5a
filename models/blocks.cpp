#include "models/blocks.h"

#include <algorithm>
#include <cmath>

#include "kernels/table.h"

namespace kiln::models {

// ---- planning ----

BufferId Planning::add(const std::string& name, size_t bytes, Lifetime lifetime) const {
  if (!shared) return plan.add(name, Category::activations, bytes, lifetime);
  const std::string common = layerless(name);
  const auto found = shared->find(common);
  if (found != shared->end()) return found->second;
  // From the first block on the way up to the first block on the way down.
  const Lifetime all_blocks{Clock::attention(0), clock.backward(Clock::attention(0))};
  return (*shared)[common] = plan.add(common, Category::activations, bytes, all_blocks);
}

BufferId Planning::activation(const std::string& name, int64_t columns, int written, int until) const {
  const size_t bytes = static_cast<size_t>(rows() * columns) * size_of(dtype);
  const int last = batch.training ? clock.backward(until) : std::max(written, until);
  return add(name, bytes, {written, last});
}

BufferId Planning::statistic(const std::string& name, int64_t columns, int tick) const {
  const size_t bytes = static_cast<size_t>(rows() * columns) * sizeof(float);
  return add(name, bytes, {tick, batch.training ? clock.backward(tick) : tick});
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

Linear linear_of(const ParameterTable& table, int weight) {
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

// ---- norm ----

Norm add_norm(ParameterTable& table, const std::string& name, NormKind kind, int64_t C, double eps) {
  Norm norm;
  norm.kind = kind;
  norm.weight = table.add(name + ".weight", {C}, ParameterKind::norm);
  if (kind == NormKind::layer) norm.bias = table.add(name + ".bias", {C}, ParameterKind::bias);
  norm.C = C;
  norm.eps = eps;
  return norm;
}

void plan(Norm& norm, const Planning& planning, const std::string& name, int tick, int until) {
  norm.out = planning.activation(name, norm.C, tick, until);
  if (norm.kind == NormKind::layer) norm.mean = planning.statistic(name + ".mean", 1, tick);
  norm.rstd = planning.statistic(name + ".rstd", 1, tick);
}

void* forward(const Pass& pass, const Norm& norm, const void* in, int64_t rows) {
  void* out = pass.at(norm.out);
  const auto eps = static_cast<float>(norm.eps);
  if (norm.kind == NormKind::rms) {
    kernels::rmsnorm_forward(pass.context, {.out = out,                         // (rows, C)
                                            .rstd = pass.statistic(norm.rstd),  // (rows)
                                            .in = in,                           // (rows, C)
                                            .weight = pass.weight(norm.weight),
                                            .rows = rows,
                                            .C = norm.C,
                                            .eps = eps,
                                            .dtype = pass.dtype});
    return out;
  }
  kernels::layernorm_forward(pass.context, {.out = out,                         // (rows, C)
                                            .mean = pass.statistic(norm.mean),  // (rows)
                                            .rstd = pass.statistic(norm.rstd),  // (rows)
                                            .in = in,                           // (rows, C)
                                            .weight = pass.weight(norm.weight),
                                            .bias = pass.weight(norm.bias),
                                            .rows = rows,
                                            .C = norm.C,
                                            .eps = eps,
                                            .dtype = pass.dtype});
  return out;
}

void backward(const Pass& pass, const Norm& norm, void* d_in, const void* d_out, const void* d_residual,
              const void* in) {
  if (norm.kind == NormKind::rms) {
    kernels::rmsnorm_backward(pass.context, {.d_in = d_in,                            // (R, C)
                                             .d_weight = pass.gradient(norm.weight),  // (C) +=
                                             .d_out = d_out,                          // (R, C)
                                             .d_residual = d_residual,                // (R, C)
                                             .in = in,                                // (R, C)
                                             .rstd = pass.statistic(norm.rstd),
                                             .weight = pass.weight(norm.weight),
                                             .rows = pass.rows(),
                                             .C = norm.C,
                                             .dtype = pass.dtype});
    return;
  }
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
                                 int64_t kv_heads, bool bias, bool rotary) {
  SelfAttention attention;
  attention.rotary = rotary;
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

// Turns the queries and keys of a fused projection by their positions, or their gradients back.
void rotate(const Pass& pass, const SelfAttention& attention, void* fused, bool inverse) {
  if (!attention.rotary) return;
  kernels::rotary(pass.context, {.x = fused,  // (B, T, heads + kv_heads, head_size): queries, then keys
                                 .angles = pass.angles,
                                 .B = pass.B,
                                 .T = pass.T,
                                 .heads = attention.heads + attention.kv_heads,
                                 .head_size = attention.head_size,
                                 .stride = attention.qkv.N,
                                 .inverse = inverse,
                                 .dtype = pass.dtype});
}

}  // namespace

void forward(const Pass& pass, SelfAttention& attention, void* out, const void* in) {
  void* fused = pass.at(attention.fused);
  void* context = pass.at(attention.context);
  forward(pass, attention.qkv, fused, in, pass.rows());  // (R, C) -> (R, W)
  rotate(pass, attention, fused, /*inverse=*/false);
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
  rotate(pass, attention, d_fused, /*inverse=*/true);
  backward(pass, attention.qkv, d_in, d_fused, in, pass.rows());  // (R, W) -> (R, C)
}

// ---- feed-forward ----

FeedForward add_feed_forward(ParameterTable& table, FeedForwardKind kind, const std::string& up,
                             const std::string& down, int64_t C, int64_t F, bool bias) {
  FeedForward block;
  block.kind = kind;
  if (kind == FeedForwardKind::gelu) {
    block.up = add_linear(table, up, F, C, bias);
  } else {
    block.up = add_linear(table, up, 2 * F, C, bias, {{"gate", 0, F}, {"up", F, F}});
  }
  block.down = add_linear(table, down, C, F, bias);
  return block;
}

void plan(FeedForward& block, const Planning& planning, const ParameterTable& table, const std::string& name,
          int tick) {
  plan(block.up, planning, table);
  plan(block.down, planning, table);
  block.inner = planning.activation(name + ".inner", block.up.N, tick, tick);
  block.active = planning.activation(name + ".active", block.down.K, tick, tick);
}

void bind(FeedForward& block, const ParameterTable& table, const Arena& arena) {
  bind(block.up, table, arena);
  bind(block.down, table, arena);
}

void forward_inside(const Pass& pass, FeedForward& block, const void* in) {
  const int64_t R = pass.rows(), F = block.down.K;
  void *inner = pass.at(block.inner), *active = pass.at(block.active);
  forward(pass, block.up, inner, in, R);  // (R, C) -> (R, F) or (R, 2F)
  if (block.kind == FeedForwardKind::gelu) {
    kernels::gelu_forward(pass.context, {.out = active, .in = inner, .n = R * F, .dtype = pass.dtype});
  } else {
    kernels::swiglu_forward(pass.context,
                            {.out = active, .in = inner, .rows = R, .F = F, .dtype = pass.dtype});
  }
}

void forward(const Pass& pass, FeedForward& block, void* out, const void* in) {
  forward_inside(pass, block, in);
  forward(pass, block.down, out, pass.at(block.active), pass.rows());  // (R, F) -> (R, C)
}

void backward(const Pass& pass, FeedForward& block, void* d_in, const void* d_out, const void* in) {
  const int64_t R = pass.rows(), F = block.down.K;
  void* inner = pass.at(block.inner);    // (R, F), or (R, 2F) and then its gradient
  void* active = pass.at(block.active);  // (R, F), then its gradient, then, of GELU, that of inner
  backward(pass, block.down, active, d_out, active, R);  // (R, C) -> (R, F)
  void* d_inner = block.kind == FeedForwardKind::gelu ? active : inner;
  if (block.kind == FeedForwardKind::gelu) {
    kernels::gelu_backward(pass.context,
                           {.d_in = d_inner, .d_out = active, .in = inner, .n = R * F, .dtype = pass.dtype});
  } else {
    kernels::swiglu_backward(
        pass.context,
        {.d_in = d_inner, .d_out = active, .in = inner, .rows = R, .F = F, .dtype = pass.dtype});
  }
  backward(pass, block.up, d_in, d_inner, in, R);  // (R, F) or (R, 2F) -> (R, C)
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
  const auto chunk = [&](int64_t first, int64_t rows) {
    void* in = advance(hidden, first * head.linear.K, pass.dtype);   // (rows, C)
    forward(pass, head.linear, logits, in, rows);                    // (rows, C) -> (rows, Vp)
    kernels::softmax_cross_entropy(pass.context, {.logits = logits,  // (rows, Vp), then d_logits
                                                  .losses = advance(losses, first),    // (rows)
                                                  .targets = advance(targets, first),  // (rows)
                                                  .rows = rows,
                                                  .V = head.V,
                                                  .Vp = head.linear.N,
                                                  .ld = head.linear.N,
                                                  .scale = gradient_scale.value_or(0.0f),
                                                  .write_gradient = gradient_scale.has_value(),
                                                  .dtype = pass.dtype});
    if (gradient_scale) backward(pass, head.linear, in, logits, in, rows);  // (rows, Vp) -> (rows, C)
  };
  const int64_t whole = pass.rows() / head.loss_rows, rest = pass.rows() % head.loss_rows;
  if (DryRun* record = pass.context.dry_run) {
    record_times(*record, whole, [&] { chunk(0, head.loss_rows); });
  } else {
    for (int64_t i = 0; i < whole; i++) chunk(i * head.loss_rows, head.loss_rows);
  }
  if (rest > 0) chunk(whole * head.loss_rows, rest);
}

}  // namespace kiln::models
