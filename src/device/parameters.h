// The parameters of a model: what models fill, optimizers update, checkpoints store. It stands below models and
// optimizers so that neither needs to know the other.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/core/dtype.h"
#include "src/core/shape.h"
#include "src/device/plan.h"

namespace kiln {

// What a parameter is to the network; optimizers route by it.
enum class ParameterKind : uint8_t { matrix, embedding, head, norm, bias };
std::string_view name_of(ParameterKind kind);

// Rows [first, first + rows) of a matrix that is several matrices glued together for one GEMM (query, key, value);
// matrix optimizers treat each on its own.
struct RowSplit {
  std::string name;
  int64_t first, rows;
};

struct Parameter {
  std::string name;  // unique; "h.0.attn.qkv.weight"
  Shape shape;       // row-major; matrices are (out features, in features)
  ParameterKind kind;
  std::vector<RowSplit> splits;  // empty: one matrix
  DType dtype = DType::f32;      // of `weight`

  // Filled by bind().
  void* weight = nullptr;     // what kernels read
  float* master = nullptr;    // what the optimizer updates; the same memory as `weight` in fp32
  float* gradient = nullptr;  // fp32, accumulated over micro-batches
  uint64_t version = 1;       // bumped by every update; rearranged copies of older versions are stale

  int64_t elements() const { return element_count(shape); }
};

// The name with its numbers replaced, "h.3.attn.qkv.weight" -> "h.*.attn.qkv.weight": layers look alike, so one row
// of a listing stands for all of them.
std::string layerless(const std::string& name);

class ParameterTable {
 public:
  // The returned index stays valid; references do not survive further additions.
  int add(std::string name, Shape shape, ParameterKind kind, std::vector<RowSplit> splits = {});

  // Plans weights, masters (if dtype is not fp32) and, if asked, gradients; then points into the arena.
  void plan(Plan& plan, DType dtype, bool gradients);
  void bind(const Arena& arena);
  void bump_versions();

  Parameter& operator[](int index) { return parameters_[static_cast<size_t>(index)]; }
  const Parameter& operator[](int index) const { return parameters_[static_cast<size_t>(index)]; }
  std::vector<Parameter>& all() { return parameters_; }
  const std::vector<Parameter>& all() const { return parameters_; }
  int64_t elements() const;

 private:
  struct Buffers {
    BufferId weight = -1, master = -1, gradient = -1;
  };
  std::vector<Parameter> parameters_;
  std::vector<Buffers> buffers_;
};

}  // namespace kiln
