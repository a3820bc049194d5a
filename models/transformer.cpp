#include "models/transformer.h"

#include <cmath>
#include <map>
#include <set>

#include "kernels/table.h"
#include "models/blocks.h"
#include "models/initialise.h"
#include "src/core/error.h"

namespace kiln::models {
namespace {

struct Layer {
  Norm norm1;
  SelfAttention attention;
  Norm norm2;
  FeedForward feed_forward;
  BufferId x = -1;    // (R, C): the residual stream before the attention half
  BufferId mid = -1;  // (R, C): the residual stream before the feed-forward half
};

class Transformer final : public Model {
 public:
  Transformer(const families::Family& family, const ModelShape& shape);

  ParameterTable& parameters() override { return parameters_; }
  void plan(Plan& plan, const BatchShape& batch, DType dtype, const Device& device) override;
  void bind(const Arena& arena) override;
  void initialise(Context& context, uint64_t seed) override;
  void forward_backward(Context& context, const int32_t* tokens, const int32_t* targets, int64_t B, int64_t T,
                        float scale, float* losses) override;
  void forward(Context& context, const int32_t* tokens, const int32_t* targets, int64_t B, int64_t T,
               float* losses) override;
  void prefill(Context& context, const int32_t* tokens, int64_t T, int64_t count, float* logits) override;
  void decode(Context& context, const int32_t* token, int64_t position, float* logits) override;

 private:
  Pass pass(Context& context, int64_t B, int64_t T) const;
  void embed(const Pass& pass, const int32_t* tokens);
  void attention_half(const Pass& pass, Layer& layer);
  void forward_layers(const Pass& pass, const int32_t* tokens);
  void recompute(const Pass& pass, Layer& layer);
  void backward_layers(const Pass& pass, const int32_t* tokens);
  void last_logits(const Pass& pass, int64_t row, float* logits);
  // The residual stream (R, C) in front of layer l; that of l = layers is the last.
  BufferId stream(size_t l) const { return l < layers_.size() ? layers_[l].x : last_; }

  families::Family family_;
  ModelShape shape_;
  ParameterTable parameters_;
  int wte_, wpe_ = -1;
  std::vector<Layer> layers_;
  Norm last_norm_;
  Head head_;

  BatchShape batch_;
  DType dtype_ = DType::f32;
  const Arena* arena_ = nullptr;
  BufferId last_ = -1;    // (R, C): the residual stream behind the last layer
  BufferId angles_ = -1;  // (T, 2, head_size/2) fp32, with rotary positions
};

Transformer::Transformer(const families::Family& family, const ModelShape& shape)
    : family_(family), shape_(shape) {
  if (shape_.kv_heads == 0) shape_.kv_heads = shape_.heads;
  const int64_t C = shape.width;
  const auto norm = [&](const std::string& name) {
    return add_norm(parameters_, name, family.norm, C, shape_.norm_eps);
  };
  wte_ = parameters_.add("wte.weight", {shape.padded_vocab, C}, ParameterKind::embedding);
  if (family.positions == families::PositionKind::learned)
    wpe_ = parameters_.add("wpe.weight", {shape.context, C}, ParameterKind::embedding);
  for (int64_t l = 0; l < shape.layers; l++) {
    const std::string h = fmt::format("h.{}.", l);
    Layer layer;
    layer.norm1 = norm(fmt::format("{}{}1", h, family.norm_name));
    layer.attention = add_self_attention(parameters_, h + "attn", C, shape_.heads, shape_.kv_heads,
                                         family.biases, family.rotary());
    layer.norm2 = norm(fmt::format("{}{}2", h, family.norm_name));
    layer.feed_forward = add_feed_forward(parameters_, family.feed_forward, h + family.up_name,
                                          h + family.down_name, C, shape.ffn, family.biases);
    layers_.push_back(layer);
  }
  last_norm_ = norm(fmt::format("{}_f", family.norm_name));
  const int head =
      shape.tied ? wte_ : parameters_.add("head.weight", {shape.padded_vocab, C}, ParameterKind::head);
  head_.linear = linear_of(parameters_, head);
  head_.V = shape.vocab;
}

void Transformer::plan(Plan& plan, const BatchShape& batch, DType dtype, const Device& device) {
  if (dtype != DType::f32) {
    throw Error(ExitCode::usage,
                fmt::format("{} is implemented in f32, not in {}", family_.name, name_of(dtype)),
                "set train.precision to \"f32\"");
  }
  if (batch.T > shape_.context) {
    throw Error(
        ExitCode::usage,
        fmt::format("sequences of {} tokens do not fit a model of context {}", batch.T, shape_.context),
        "lower train.sequence or raise model.context");
  }
  require(batch.cache <= shape_.context, "a cache is longer than the model's context");
  require(batch.B > 0 && batch.T > 0 && batch.loss_rows > 0, "a model cannot be planned for an empty batch");
  batch_ = batch;
  dtype_ = dtype;
  arena_ = nullptr;
  const Clock clock{static_cast<int>(shape_.layers)};
  const Planning planning{plan, batch, dtype, device, clock};
  std::map<std::string, BufferId> shared;
  Planning inside = planning;
  if (batch.training && batch.recompute) inside.shared = &shared;
  const int64_t C = shape_.width;
  for (size_t i = 0; i < layers_.size(); i++) {
    Layer& layer = layers_[i];
    const int l = static_cast<int>(i), attention = Clock::attention(l), feed_forward = Clock::feed_forward(l);
    const std::string h = fmt::format("h.{}", l);
    layer.x = planning.activation(h + ".x", C, attention - 1, attention);
    models::plan(layer.norm1, inside, h + ".norm1", attention, attention);
    models::plan(layer.attention, inside, parameters_, h + ".attn", attention);
    layer.mid = inside.activation(h + ".mid", C, attention, feed_forward);
    models::plan(layer.norm2, inside, h + ".norm2", feed_forward, feed_forward);
    models::plan(layer.feed_forward, inside, parameters_, h + ".mlp", feed_forward);
  }
  last_ = planning.activation("last", C, clock.head() - 1, clock.head());
  models::plan(last_norm_, planning, "norm_f", clock.head(), Clock::embedding());
  models::plan(head_, planning, parameters_);
  if (family_.rotary()) {
    const size_t bytes = static_cast<size_t>(batch.T * (C / shape_.heads)) * sizeof(float);
    angles_ = plan.add("rotary angles", Category::activations, bytes,
                       {Clock::embedding(), clock.backward(Clock::embedding())});
  }
}

void Transformer::bind(const Arena& arena) {
  arena_ = &arena;
  for (Layer& layer : layers_) {
    models::bind(layer.attention, parameters_, arena);
    models::bind(layer.feed_forward, parameters_, arena);
  }
  models::bind(head_.linear, parameters_, arena);
}

// As llm.c does it: all matrices and embeddings N(0, .02), those that write to the residual stream less by
// the root of the number of such writes, so that the stream's variance does not grow with depth.
void Transformer::initialise(Context& context, uint64_t seed) {
  constexpr double kDeviation = .02;
  const double residual_deviation = kDeviation / std::sqrt(2.0 * static_cast<double>(shape_.layers));
  const int64_t unpadded =
      shape_.vocab * shape_.width;  // elements of wte and head before their padding, which is zero
  std::set<int> residual_writers;
  for (const Layer& layer : layers_) {
    residual_writers.insert({layer.attention.proj.weight, layer.feed_forward.down.weight});
  }
  for (int i = 0; i < static_cast<int>(parameters_.all().size()); i++) {
    const Parameter& p = parameters_[i];
    const bool of_tokens = i == wte_ || p.kind == ParameterKind::head;
    if (p.kind == ParameterKind::norm) {
      fill_constant(p, 1.0f);
    } else if (p.kind == ParameterKind::bias) {
      fill_constant(p, 0.0f);
    } else {
      fill_normal(context, p, of_tokens ? unpadded : p.elements(),
                  residual_writers.contains(i) ? residual_deviation : kDeviation, seed);
    }
  }
  parameters_.bump_versions();
}

Pass Transformer::pass(Context& context, int64_t B, int64_t T) const {
  require(B > 0 && T > 0 && B <= batch_.B && T <= batch_.T,
          "a batch is larger than the model was planned for");
  Pass pass{.context = context, .parameters = parameters_, .arena = arena_, .dtype = dtype_, .B = B, .T = T};
  if (angles_ >= 0) pass.angles = pass.statistic(angles_);
  return pass;
}

// tokens (B, T) -> the first residual stream (R, C), and the angles of the pass's positions
void Transformer::embed(const Pass& pass, const int32_t* tokens) {
  const int64_t C = shape_.width;
  const void* positions =
      wpe_ < 0 ? nullptr : advance(pass.weight(wpe_), pass.first_position() * C, pass.dtype);
  kernels::embedding_forward(pass.context, {.out = pass.at(stream(0)),         // (B, T, C)
                                            .tokens = tokens,                  // (B, T)
                                            .token_table = pass.weight(wte_),  // (Vp, C)
                                            .position_table = positions,       // (context - first, C)
                                            .B = pass.B,
                                            .T = pass.T,
                                            .C = C,
                                            .dtype = pass.dtype});
  if (angles_ < 0) return;
  kernels::rotary_angles(pass.context, {.out = pass.statistic(angles_),  // (T, 2, head_size/2)
                                        .first = pass.first_position(),
                                        .T = pass.T,
                                        .head_size = C / shape_.heads,
                                        .theta = shape_.rope_theta,
                                        .dtype = pass.dtype});
}

// mid = x + attention(norm1(x))
void Transformer::attention_half(const Pass& pass, Layer& layer) {
  void *x = pass.at(layer.x), *mid = pass.at(layer.mid);                    // (R, C)
  const void* normed = models::forward(pass, layer.norm1, x, pass.rows());  // (R, C) -> (R, C)
  models::forward(pass, layer.attention, mid, normed);  // (R, C) -> (R, W) -> (R, C) -> (R, C)
  add_residual(pass, mid, x, shape_.width);
}

// tokens (B, T) -> the last residual stream (R, C)
void Transformer::forward_layers(const Pass& pass, const int32_t* tokens) {
  embed(pass, tokens);
  for (size_t l = 0; l < layers_.size(); l++) {
    Layer& layer = layers_[l];
    attention_half(pass, layer);
    // next = mid + feed_forward(norm2(mid))
    void *mid = pass.at(layer.mid), *next = pass.at(stream(l + 1));             // (R, C)
    const void* normed = models::forward(pass, layer.norm2, mid, pass.rows());  // (R, C) -> (R, C)
    models::forward(pass, layer.feed_forward, next, normed);                    // (R, C) -> (R, F) -> (R, C)
    add_residual(pass, next, mid, shape_.width);
  }
}

// Everything that a layer's backward pass reads, from its x.
void Transformer::recompute(const Pass& pass, Layer& layer) {
  DryRun* record = pass.context.dry_run;
  const double before = record ? record->flops : 0;
  attention_half(pass, layer);
  const void* normed = models::forward(pass, layer.norm2, pass.at(layer.mid), pass.rows());
  forward_inside(pass, layer.feed_forward, normed);
  if (record) record->recomputed_flops += record->flops - before;
}

// From the gradient of the last norm's output, which stands in its place, to the gradients of all parameters but the
// head's.
void Transformer::backward_layers(const Pass& pass, const int32_t* tokens) {
  void* d_stream = pass.at(last_norm_.out);  // (R, C): gradient of the residual stream, ever further up
  models::backward(pass, last_norm_, d_stream, d_stream, nullptr, pass.at(last_));
  for (size_t l = layers_.size(); l-- > 0;) {
    Layer& layer = layers_[l];
    if (batch_.recompute && l + 1 < layers_.size()) recompute(pass, layer);
    void *norm1 = pass.at(layer.norm1.out),
         *norm2 = pass.at(layer.norm2.out);  // (R, C), then their gradients
    // next = mid + feed_forward(norm2(mid))
    models::backward(pass, layer.feed_forward, norm2, d_stream, norm2);  // (R, C) -> (R, F) -> (R, C)
    models::backward(pass, layer.norm2, d_stream, norm2, d_stream, pass.at(layer.mid));
    // mid = x + attention(norm1(x))
    models::backward(pass, layer.attention, norm1, d_stream, norm1);  // (R, C) -> (R, C) -> (R, W) -> (R, C)
    models::backward(pass, layer.norm1, d_stream, norm1, d_stream, pass.at(layer.x));
  }
  kernels::embedding_backward(pass.context, {.d_token_table = pass.gradient(wte_),     // (Vp, C) +=
                                             .d_position_table = pass.gradient(wpe_),  // (context, C) +=
                                             .d_out = d_stream,                        // (B, T, C)
                                             .tokens = tokens,                         // (B, T)
                                             .B = pass.B,
                                             .T = pass.T,
                                             .C = shape_.width,
                                             .dtype = pass.dtype});
}

void Transformer::forward_backward(Context& context, const int32_t* tokens, const int32_t* targets, int64_t B,
                                   int64_t T, float scale, float* losses) {
  require(batch_.training, "a model planned without training cannot run backward");
  const Pass pass = this->pass(context, B, T);
  forward_layers(pass, tokens);
  void* hidden = models::forward(pass, last_norm_, pass.at(last_), pass.rows());  // (R, C) -> (R, C)
  loss(pass, head_, hidden, targets, losses, scale);  // (R, C) -> (R), and back to (R, C)
  backward_layers(pass, tokens);
}

void Transformer::forward(Context& context, const int32_t* tokens, const int32_t* targets, int64_t B,
                          int64_t T, float* losses) {
  const Pass pass = this->pass(context, B, T);
  forward_layers(pass, tokens);
  void* hidden = models::forward(pass, last_norm_, pass.at(last_), pass.rows());  // (R, C) -> (R, C)
  loss(pass, head_, hidden, targets, losses, std::nullopt);                       // (R, C) -> (R)
}

// Behind row `row` of the last residual stream.
void Transformer::last_logits(const Pass& pass, int64_t row, float* logits) {
  const void* last = advance(pass.at(last_), row * shape_.width, pass.dtype);  // (1, C)
  const void* hidden = models::forward(pass, last_norm_, last, 1);             // (1, C) -> (1, C)
  models::forward(pass, head_.linear, logits, hidden, 1);                      // (1, C) -> (1, Vp)
}

void Transformer::prefill(Context& context, const int32_t* tokens, int64_t T, int64_t count, float* logits) {
  require(count > 0 && count <= T && count <= batch_.cache, "a beginning does not fit the cache");
  Pass pass = this->pass(context, 1, T);
  pass.cache = Pass::Cache::fill;
  pass.cached = count;
  forward_layers(pass, tokens);
  last_logits(pass, count - 1, logits);
}

void Transformer::decode(Context& context, const int32_t* token, int64_t position, float* logits) {
  require(position >= 0 && position < batch_.cache, "a token does not fit the cache");
  Pass pass = this->pass(context, 1, 1);
  pass.cache = Pass::Cache::extend;
  pass.cached = position;
  forward_layers(pass, token);
  last_logits(pass, 0, logits);
}

void check(bool holds, const std::string& message, const char* hint) {
  if (!holds) throw Error(ExitCode::usage, message, hint);
}

}  // namespace

std::unique_ptr<Model> create_transformer(const families::Family& family, const ModelShape& shape) {
  check(shape.layers > 0 && shape.width > 0 && shape.heads > 0 && shape.ffn > 0 && shape.vocab > 0 &&
            shape.context > 0,
        "a model of no layers, width, heads, ffn, vocab or context",
        "every size of model.* must be at least 1");
  check(shape.width % shape.heads == 0,
        fmt::format("model.width {} cannot be split into {} heads", shape.width, shape.heads),
        "make model.width a multiple of model.heads");
  check(shape.kv_heads >= 0 && (shape.kv_heads == 0 || shape.heads % shape.kv_heads == 0),
        fmt::format("{} heads cannot share {} heads of keys and values", shape.heads, shape.kv_heads),
        "make model.heads a multiple of model.kv_heads");
  check(shape.norm_eps > 0 && (!family.rotary() || shape.rope_theta > 0),
        "a model without a norm_eps or a rope_theta", "model.norm_eps and model.rope_theta must be positive");
  check(!family.rotary() || shape.width / shape.heads % 2 == 0,
        fmt::format("heads of {} channels cannot be turned in pairs", shape.width / shape.heads),
        "make model.width / model.heads even");
  check(shape.padded_vocab >= shape.vocab,
        fmt::format("a padded vocabulary of {} is smaller than model.vocab {}", shape.padded_vocab,
                    shape.vocab),
        "round model.vocab up");
  return std::make_unique<Transformer>(family, shape);
}

}  // namespace kiln::models
