#include "optim/optimizer_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "src/core/error.h"

namespace kiln::optim {
namespace {

std::string shape_text(const MatrixBatch& m) {
  return m.rows == 1 ? fmt::format("{}", m.cols) : fmt::format("{} x {}", m.rows, m.cols);
}

}  // namespace

OptimizerSet::OptimizerSet(Routing routing) : routing_(std::move(routing)) {
  for (RoutedGroup& group : routing_.groups) {
    for (RoutedBatch& batch : group.batches) {
      MatrixBatch& m = batch.matrices;
      const std::vector<StateSpec> specs = group.optimizer->state(m.rows, m.cols);
      m.param.assign(m.names.size(), nullptr);
      m.grad.assign(m.names.size(), nullptr);
      m.state.assign(specs.size(), std::vector<float*>(m.names.size(), nullptr));
      for (const StateSpec& spec : specs) {
        for (const std::string& name : m.names) {
          state_.push_back({.name = name + "." + spec.name, .rows = spec.rows, .cols = spec.cols});
        }
      }
    }
  }
}

void OptimizerSet::plan(Plan& plan) {
  for (StateTensor& s : state_) {
    s.buffer =
        plan.add(s.name, Category::optimizer_state, static_cast<size_t>(s.rows * s.cols) * sizeof(float));
  }
}

void OptimizerSet::bind(const Arena& arena) {
  for (StateTensor& s : state_) {
    require(s.buffer >= 0, "an optimizer must be planned before it is bound");
    s.data = arena.at<float>(s.buffer);
  }
  size_t next = 0;
  for (RoutedGroup& group : routing_.groups) {
    for (RoutedBatch& batch : group.batches) {
      MatrixBatch& m = batch.matrices;
      for (size_t k = 0; k < batch.sources.size(); k++) {
        const Parameter& p = (*routing_.parameters)[batch.sources[k].parameter];
        require(p.dtype == DType::f32, "this optimizer step updates fp32 weights only");
        require(p.master && p.gradient, "parameters and gradients must be bound before the optimizer");
        m.param[k] = p.master + batch.sources[k].first_row * m.ld;
        m.grad[k] = p.gradient + batch.sources[k].first_row * m.ld;
      }
      for (std::vector<float*>& tensors : m.state) {
        for (float*& data : tensors) data = state_[next++].data;
      }
    }
  }
}

void OptimizerSet::step(Context& context, const StepInfo& info, std::vector<double>* seconds) {
  using Clock = std::chrono::steady_clock;
  if (seconds) seconds->resize(routing_.groups.size());
  for (size_t i = 0; i < routing_.groups.size(); i++) {
    const auto start = Clock::now();
    RoutedGroup& group = routing_.groups[i];
    for (RoutedBatch& batch : group.batches) group.optimizer->step(context, batch.matrices, info);
    if (seconds) (*seconds)[i] += std::chrono::duration<double>(Clock::now() - start).count();
  }
}

std::string OptimizerSet::describe() const {
  struct Row {
    std::string name, shape, rank;
    int64_t count;
    const Optimizer* optimizer;
  };
  std::vector<Row> rows;
  for (const RoutedGroup& group : routing_.groups) {
    for (const RoutedBatch& batch : group.batches) {
      for (const std::string& full : batch.matrices.names) {
        const int64_t rank = group.optimizer->effective_rank(batch.matrices.rows, batch.matrices.cols);
        Row row{layerless(full), shape_text(batch.matrices), rank ? fmt::format("{}", rank) : "-", 1,
                group.optimizer.get()};
        const auto same = std::find_if(rows.begin(), rows.end(), [&](const Row& r) {
          return r.name == row.name && r.shape == row.shape && r.optimizer == row.optimizer;
        });
        if (same != rows.end()) {
          same->count++;
        } else {
          rows.push_back(std::move(row));
        }
      }
    }
  }
  size_t widest = 9;
  for (const Row& r : rows) widest = std::max(widest, r.name.size());
  std::string text = fmt::format("  {:<{}} {:>14} {:>6}  {:<14} {:>8} {:>8} {:>5}\n", "parameter", widest,
                                 "shape", "count", "optimizer", "lr", "wd", "rank");
  for (const Row& r : rows) {
    text += fmt::format("  {:<{}} {:>14} {:>6}  {:<14} {:>8g} {:>8g} {:>5}\n", r.name, widest, r.shape,
                        r.count, r.optimizer->name(), r.optimizer->lr(), r.optimizer->weight_decay(), r.rank);
  }
  return text;
}

}  // namespace kiln::optim
