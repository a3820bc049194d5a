#include "models/llama.h"

#include "models/transformer.h"

namespace kiln::models {

std::unique_ptr<Model> create_llama(const ModelShape& shape) {
  const Design design{.family = "llama",
                      .norm = NormKind::rms,
                      .feed_forward = FeedForwardKind::swiglu,
                      .learned_positions = false,
                      .rotary = true,
                      .biases = false,
                      .norm_name = "norm",
                      .up_name = "mlp.gate_up",
                      .down_name = "mlp.down"};
  return create_transformer(design, shape);
}

}  // namespace kiln::models
