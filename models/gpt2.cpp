#include "models/gpt2.h"

#include "models/transformer.h"

namespace kiln::models {

std::unique_ptr<Model> create_gpt2(const ModelShape& shape) {
  const Design design{.family = "gpt2",
                      .norm = NormKind::layer,
                      .feed_forward = FeedForwardKind::gelu,
                      .learned_positions = true,
                      .rotary = false,
                      .biases = true,
                      .norm_name = "ln",
                      .up_name = "mlp.fc",
                      .down_name = "mlp.proj"};
  return create_transformer(design, shape);
}

}  // namespace kiln::models
