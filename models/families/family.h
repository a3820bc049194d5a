// What one family of models has that another has not. A family is one header of this folder, NAME.h, that defines kFamily in
// namespace kiln::families::NAME; NAME is small letters, digits and _, and what model.family calls it. There is no list to
// add it to: the build makes families() from the headers that are here (family.h and list.h apart), and the keys of configs
// and what is said of them follow from it. Written anew with one more family: docs/config.md (kiln config --markdown).
#pragma once

#include <cstdint>

namespace kiln::families {

enum class NormKind : uint8_t { layer, rms };
enum class FeedForwardKind : uint8_t {
  gelu,    // down(gelu(up(x)))
  swiglu,  // down(silu(gate(x)) * up(x)), gate and up in one projection (C) -> (2F)
};
enum class PositionKind : uint8_t {
  learned,  // added to the token embedding
  rotary,   // turn queries and keys; heads have an even number of channels
};

struct Family {
  const char* name;     // model.family
  const char* summary;  // behind "NAME has", for the explanation of model.family

  NormKind norm;
  FeedForwardKind feed_forward;
  PositionKind positions;
  bool biases;  // of linear layers

  constexpr bool rotary() const { return positions == PositionKind::rotary; }

  // Names of parameters.
  const char* norm_name;            // "ln": h.0.ln1, h.0.ln2, ln_f
  const char *up_name, *down_name;  // of the feed-forward half: "mlp.fc", "mlp.proj"

  // What keys mean that a config leaves open.
  bool tied;                      // model.tied = "auto"
  double norm_eps;                // model.norm_eps = 0
  int64_t (*ffn)(int64_t width);  // model.ffn = 0, for a model.width
  const char* ffn_summary;        // the same in words
};

}  // namespace kiln::families
