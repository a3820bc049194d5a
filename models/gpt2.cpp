#include "models/gpt2.h"

#include <cmath>

#include "kernels/table.h"
#include "models/blocks.h"
#include "models/initialise.h"
#include "src/core/error.h"

namespace kiln::models {
namespace {

struct Layer {
  LayerNorm ln1;
  SelfAttention attention;
  LayerNorm ln2;
  Linear fc, proj;      // (C) -> (F) -> (C)
  BufferId x = -1;      // (R, C): the residual stream before the attention half
  BufferId mid = -1;    // (R, C): the residual stream before the feed-forward half
  BufferId inner = -1;  // (R, F): before GELU
  BufferId gelu = -1;   // (R, F)
};

class Gpt2 final : public Model {
 public:
  explicit Gpt2(const ModelShape& shape);

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
  void forward_layers(const Pass& pass, const int32_t* tokens);
  void backward_layers(const Pass& pass, const int32_t* tokens);
  void last_logits(const Pass& pass, int64_t row, float* logits);
  // The residual stream (R, C) in front of layer l; that of l = layers is the last.
  BufferId stream(size_t l) const { return l < layers_.size() ? layers_[l].x : last_; }

  ModelShape shape_;
  ParameterTable parameters_;
  int wte_, wpe_;
  std::vector<Layer> layers_;
  LayerNorm ln_f_;
  Head head_;

  BatchShape batch_;
  DType dtype_ = DType::f32;
  const Arena* arena_ = nullptr;
  BufferId last_ = -1;  // (R, C): the residual stream behind the last layer
};

Gpt2::Gpt2(const ModelShape& shape) : shape_(shape) {
  const int64_t C = shape.width, F = shape.ffn;
  wte_ = parameters_.add("wte.weight", {shape.padded_vocab, C}, ParameterKind::embedding);
  wpe_ = parameters_.add("wpe.weight", {shape.context, C}, ParameterKind::embedding);
  for (int64_t l = 0; l < shape.layers; l++) {
    const std::string h = fmt::format("h.{}", l);
    Layer layer;
    layer.ln1 = add_layer_norm(parameters_, h + ".ln1", C);
    layer.attention = add_self_attention(parameters_, h + ".attn", C, shape.heads, shape.heads, true);
    layer.ln2 = add_layer_norm(parameters_, h + ".ln2", C);
    layer.fc = add_linear(parameters_, h + ".mlp.fc", F, C, true);
    layer.proj = add_linear(parameters_, h + ".mlp.proj", C, F, true);
    layers_.push_back(layer);
  }
  ln_f_ = add_layer_norm(parameters_, "ln_f", C);
  head_.linear = tied_linear(parameters_, wte_);
  head_.V = shape.vocab;
}

void Gpt2::plan(Plan& plan, const BatchShape& batch, DType dtype, const Device& device) {
  if (dtype != DType::f32) {
    throw Error(ExitCode::usage, fmt::format("gpt2 is implemented in f32, not in {}", name_of(dtype)),
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
  const int64_t C = shape_.width, F = shape_.ffn;
  for (size_t i = 0; i < layers_.size(); i++) {
    Layer& layer = layers_[i];
    const int l = static_cast<int>(i), attention = Clock::attention(l), feed_forward = Clock::feed_forward(l);
    const std::string h = fmt::format("h.{}", l);
    layer.x = planning.activation(h + ".x", C, attention - 1, attention);
    models::plan(layer.ln1, planning, h + ".ln1", attention, attention);
    models::plan(layer.attention, planning, parameters_, h + ".attn", attention);
    layer.mid = planning.activation(h + ".mid", C, attention, feed_forward);
    models::plan(layer.ln2, planning, h + ".ln2", feed_forward, feed_forward);
    models::plan(layer.fc, planning, parameters_);
    models::plan(layer.proj, planning, parameters_);
    layer.inner = planning.activation(h + ".mlp.inner", F, feed_forward, feed_forward);
    layer.gelu = planning.activation(h + ".mlp.gelu", F, feed_forward, feed_forward);
  }
  last_ = planning.activation("last", C, clock.head() - 1, clock.head());
  models::plan(ln_f_, planning, "ln_f", clock.head(), Clock::embedding());
  models::plan(head_, planning, parameters_);
}

void Gpt2::bind(const Arena& arena) {
  arena_ = &arena;
  for (Layer& layer : layers_) {
    models::bind(layer.attention, parameters_, arena);
    models::bind(layer.fc, parameters_, arena);
    models::bind(layer.proj, parameters_, arena);
  }
  models::bind(head_.linear, parameters_, arena);
}

// As llm.c does it: all matrices and embeddings N(0, .02), those that write to the residual stream less by
// the root of the number of such writes, so that the stream's variance does not grow with depth.
void Gpt2::initialise(Context& context, uint64_t seed) {
  constexpr double kDeviation = .02;
  const double residual_deviation = kDeviation / std::sqrt(2.0 * static_cast<double>(shape_.layers));
  for (const Parameter& p : parameters_.all()) {
    if (p.kind == ParameterKind::norm) fill_constant(p, 1.0f);
    if (p.kind == ParameterKind::bias) fill_constant(p, 0.0f);
  }
  const auto normal = [&](int index, double deviation) {
    fill_normal(context, parameters_[index], parameters_[index].elements(), deviation, seed);
  };
  const int64_t unpadded = shape_.vocab * shape_.width;  // elements of wte before its padding, which is zero
  fill_normal(context, parameters_[wte_], unpadded, kDeviation, seed);
  normal(wpe_, kDeviation);
  for (const Layer& layer : layers_) {
    normal(layer.attention.qkv.weight, kDeviation);
    normal(layer.attention.proj.weight, residual_deviation);
    normal(layer.fc.weight, kDeviation);
    normal(layer.proj.weight, residual_deviation);
  }
  parameters_.bump_versions();
}

Pass Gpt2::pass(Context& context, int64_t B, int64_t T) const {
  require(B > 0 && T > 0 && B <= batch_.B && T <= batch_.T,
          "a batch is larger than the model was planned for");
  return {.context = context, .parameters = parameters_, .arena = arena_, .dtype = dtype_, .B = B, .T = T};
}

// tokens (B, T) -> the last residual stream (R, C)
void Gpt2::forward_layers(const Pass& pass, const int32_t* tokens) {
  const int64_t R = pass.rows(), C = shape_.width, F = shape_.ffn;
  const void* positions = advance(pass.weight(wpe_), pass.first_position() * C, pass.dtype);
  kernels::embedding_forward(pass.context, {.out = pass.at(stream(0)),         // (B, T, C)
                                            .tokens = tokens,                  // (B, T)
                                            .token_table = pass.weight(wte_),  // (Vp, C)
                                            .position_table = positions,       // (context - first, C)
                                            .B = pass.B,
                                            .T = pass.T,
                                            .C = C,
                                            .dtype = pass.dtype});
  for (size_t l = 0; l < layers_.size(); l++) {
    Layer& layer = layers_[l];
    void *x = pass.at(layer.x), *mid = pass.at(layer.mid), *next = pass.at(stream(l + 1));  // (R, C)
    void *inner = pass.at(layer.inner), *gelu = pass.at(layer.gelu);                        // (R, F)
    // mid = x + attention(ln1(x))
    const void* ln1 = models::forward(pass, layer.ln1, x, R);  // (R, C) -> (R, C)
    models::forward(pass, layer.attention, mid, ln1);          // (R, C) -> (R, 3C) -> (R, C) -> (R, C)
    add_residual(pass, mid, x, C);
    // next = mid + proj(gelu(fc(ln2(mid))))
    const void* ln2 = models::forward(pass, layer.ln2, mid, R);  // (R, C) -> (R, C)
    models::forward(pass, layer.fc, inner, ln2, R);              // (R, C) -> (R, F)
    kernels::gelu_forward(pass.context, {.out = gelu, .in = inner, .n = R * F, .dtype = pass.dtype});
    models::forward(pass, layer.proj, next, gelu, R);  // (R, F) -> (R, C)
    add_residual(pass, next, mid, C);
  }
}

// From the gradient of ln_f's output, which stands in its place, to the gradients of all parameters but the
// head's.
void Gpt2::backward_layers(const Pass& pass, const int32_t* tokens) {
  const int64_t R = pass.rows(), F = shape_.ffn;
  void* d_stream = pass.at(ln_f_.out);  // (R, C): gradient of the residual stream, ever further up
  models::backward(pass, ln_f_, d_stream, d_stream, nullptr, pass.at(last_));
  for (size_t l = layers_.size(); l-- > 0;) {
    Layer& layer = layers_[l];
    void *ln1 = pass.at(layer.ln1.out), *ln2 = pass.at(layer.ln2.out);  // (R, C), then their gradients
    void* inner = pass.at(layer.inner);                                 // (R, F)
    void* gelu = pass.at(layer.gelu);  // (R, F), then its gradient, then inner's
    // next = mid + proj(gelu(fc(ln2(mid))))
    models::backward(pass, layer.proj, gelu, d_stream, gelu, R);  // (R, C) -> (R, F)
    kernels::gelu_backward(pass.context,
                           {.d_in = gelu, .d_out = gelu, .in = inner, .n = R * F, .dtype = pass.dtype});
    models::backward(pass, layer.fc, ln2, gelu, ln2, R);  // (R, F) -> (R, C)
    models::backward(pass, layer.ln2, d_stream, ln2, d_stream, pass.at(layer.mid));
    // mid = x + attention(ln1(x))
    models::backward(pass, layer.attention, ln1, d_stream, ln1);  // (R, C) -> (R, C) -> (R, 3C) -> (R, C)
    models::backward(pass, layer.ln1, d_stream, ln1, d_stream, pass.at(layer.x));
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

void Gpt2::forward_backward(Context& context, const int32_t* tokens, const int32_t* targets, int64_t B,
                            int64_t T, float scale, float* losses) {
  require(batch_.training, "a model planned without training cannot run backward");
  const Pass pass = this->pass(context, B, T);
  forward_layers(pass, tokens);
  void* hidden = models::forward(pass, ln_f_, pass.at(last_), pass.rows());  // (R, C) -> (R, C)
  loss(pass, head_, hidden, targets, losses, scale);  // (R, C) -> (R), and back to (R, C)
  backward_layers(pass, tokens);
}

void Gpt2::forward(Context& context, const int32_t* tokens, const int32_t* targets, int64_t B, int64_t T,
                   float* losses) {
  const Pass pass = this->pass(context, B, T);
  forward_layers(pass, tokens);
  void* hidden = models::forward(pass, ln_f_, pass.at(last_), pass.rows());  // (R, C) -> (R, C)
  loss(pass, head_, hidden, targets, losses, std::nullopt);                  // (R, C) -> (R)
}

// Behind row `row` of the last residual stream.
void Gpt2::last_logits(const Pass& pass, int64_t row, float* logits) {
  const void* last = advance(pass.at(last_), row * shape_.width, pass.dtype);  // (1, C)
  const void* hidden = models::forward(pass, ln_f_, last, 1);                  // (1, C) -> (1, C)
  models::forward(pass, head_.linear, logits, hidden, 1);                      // (1, C) -> (1, Vp)
}

void Gpt2::prefill(Context& context, const int32_t* tokens, int64_t T, int64_t count, float* logits) {
  require(count > 0 && count <= T && count <= batch_.cache, "a beginning does not fit the cache");
  Pass pass = this->pass(context, 1, T);
  pass.cache = Pass::Cache::fill;
  pass.cached = count;
  forward_layers(pass, tokens);
  last_logits(pass, count - 1, logits);
}

void Gpt2::decode(Context& context, const int32_t* token, int64_t position, float* logits) {
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

std::unique_ptr<Model> create_gpt2(const ModelShape& shape) {
  check(shape.layers > 0 && shape.width > 0 && shape.heads > 0 && shape.ffn > 0 && shape.vocab > 0 &&
            shape.context > 0,
        "a model of no layers, width, heads, ffn, vocab or context",
        "every size of model.* must be at least 1");
  check(shape.width % shape.heads == 0,
        fmt::format("model.width {} cannot be split into {} heads", shape.width, shape.heads),
        "make model.width a multiple of model.heads");
  check(shape.padded_vocab >= shape.vocab,
        fmt::format("a padded vocabulary of {} is smaller than model.vocab {}", shape.padded_vocab,
                    shape.vocab),
        "round model.vocab up");
  return std::make_unique<Gpt2>(shape);
}

}  // namespace kiln::models
