// What the optimizer tests share.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "optim/gradient_norm.h"
#include "optim/optimizer_set.h"
#include "src/core/random.h"
#include "src/device/context.h"

namespace kiln::tests {

inline constexpr double kUnit = 0x1p-24;  // unit roundoff of fp32

// A context whose workspace is generous: what each kernel takes is the kernel tests' business.
struct Machine {
  explicit Machine(int threads = 2) : pool(threads), scratch(1 << 20) {
    context.device = cpu_device(threads);
    context.pool = &pool;
    context.workspace = Workspace(scratch.data(), scratch.size());
  }
  ThreadPool pool;
  std::vector<char> scratch;
  Context context;
};

inline std::vector<double> normals(int64_t n, uint64_t stream, double deviation = 1) {
  std::vector<double> x(static_cast<size_t>(n));
  const Random random(7, stream);
  for (size_t i = 0; i < x.size(); i++)
    x[i] = static_cast<float>(deviation * random.normal(i));  // exact in fp32
  return x;
}

// A small table with every kind of parameter, odd sizes, and a fused matrix.
inline ParameterTable small_table() {
  ParameterTable table;
  table.add("wte.weight", {13, 6}, ParameterKind::embedding);
  table.add("h.0.norm.weight", {6}, ParameterKind::norm);
  table.add("h.0.qkv.weight", {18, 6}, ParameterKind::matrix, {{"q", 0, 6}, {"k", 6, 6}, {"v", 12, 6}});
  table.add("h.0.qkv.bias", {18}, ParameterKind::bias);
  table.add("h.0.proj.weight", {6, 6}, ParameterKind::matrix);
  table.add("h.1.norm.weight", {6}, ParameterKind::norm);
  table.add("h.1.qkv.weight", {18, 6}, ParameterKind::matrix, {{"q", 0, 6}, {"k", 6, 6}, {"v", 12, 6}});
  table.add("h.1.qkv.bias", {18}, ParameterKind::bias);
  table.add("h.1.proj.weight", {6, 6}, ParameterKind::matrix);
  table.add("head.weight", {13, 6}, ParameterKind::head);
  table.add("one.weight", {1, 1}, ParameterKind::matrix);
  return table;
}

// A table with optimizers, planned and bound; discrete buffers, so that sanitizers see overruns.
struct BoundRun {
  BoundRun(ParameterTable t, const optim::AdamWOptions& options)
      : table(std::move(t)), optimizers(optim::route(table, options)) {
    table.plan(plan, DType::f32, true);
    optimizers.plan(plan);
    norm.plan(plan, table);
    arena.emplace(plan, ArenaMode::discrete, cpu_device(1));
    table.bind(*arena);
    optimizers.bind(*arena);
    norm.bind(*arena);
  }
  BoundRun(const BoundRun&) = delete;

  ParameterTable table;
  optim::OptimizerSet optimizers;
  optim::GradientNorm norm;
  Plan plan;
  std::optional<Arena> arena;
};

}  // namespace kiln::tests
