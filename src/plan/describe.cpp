#include "src/plan/describe.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

namespace kiln::plan {
namespace {

// The weights that multiply every token: of the linear layers and of the output layer, which is the token embedding (the
// first one in the table) where there is no head of its own.
int64_t multiplied_weights(const ParameterTable& parameters) {
  int64_t linear = 0, head = 0, embedding = 0;
  for (const Parameter& p : parameters.all()) {
    if (p.kind == ParameterKind::matrix) linear += p.elements();
    if (p.kind == ParameterKind::head) head += p.elements();
    if (p.kind == ParameterKind::embedding && embedding == 0) embedding = p.elements();
  }
  return linear + (head > 0 ? head : embedding);
}

// How `ranks` share the micro-batches of a step.
std::string sharing(const PlannedRun& run, const config::Config& config, int64_t ranks) {
  const int64_t B = run.shape.B, T = run.shape.T;
  std::string text = fmt::format("step: {} tokens, {} micro-batch{} of {} x {}", config.train.tokens_per_step,
                                 run.micro_batches, run.micro_batches == 1 ? "" : "es", B, T);
  if (ranks == 1) return text + "\n";
  if (run.micro_batches % ranks == 0)
    return text + fmt::format(", {} on each rank\n", run.micro_batches / ranks);
  return text + fmt::format(
                    ": {} ranks cannot share that evenly; train.tokens_per_step must be a multiple of {} "
                    "(micro_batch x "
                    "sequence x ranks), for example {}\n",
                    ranks, B * T * ranks, round_up(config.train.tokens_per_step, B * T * ranks));
}

}  // namespace

std::string parameter_table(const ParameterTable& parameters) {
  struct Row {
    std::string name, shape;
    std::string_view kind;
    int64_t count, elements;
  };
  std::vector<Row> rows;
  for (const Parameter& p : parameters.all()) {
    const std::string name = layerless(p.name);
    const auto same = std::find_if(rows.begin(), rows.end(), [&](const Row& r) { return r.name == name; });
    if (same != rows.end()) {
      same->count++;
      same->elements += p.elements();
    } else {
      rows.push_back({name, to_string(p.shape), name_of(p.kind), 1, p.elements()});
    }
  }
  std::string text =
      fmt::format("  {:<24} {:>14} {:>6} {:>14}  {}\n", "parameter", "shape", "count", "elements", "kind");
  for (const Row& r : rows) {
    text += fmt::format("  {:<24} {:>14} {:>6} {:>14}  {}\n", r.name, r.shape, r.count, r.elements, r.kind);
  }
  return text + fmt::format("  {:<24} {:>14} {:>6} {:>14}\n", "total", "", "", parameters.elements());
}

std::string flops_text(const PlannedRun& run, const config::Config& config) {
  const double tokens = static_cast<double>(run.shape.B * run.shape.T);
  std::string text =
      fmt::format("flop/token: {:.4g} forward, {:.4g} forward and backward; a multiply-add counts as two\n",
                  run.forward_flops / tokens, run.training_flops / tokens);
  const auto& m = config.model;
  text += fmt::format(
      "  = 6 x {} (weights of the linear layers and of the output layer, padded vocabulary)\n"
      "  + 6 x {} x {} x {} (layers x width x sequence: causal attention, the half that is computed); "
      "forward a third\n{}",
      multiplied_weights(run.model->parameters()), m.layers, m.width, run.shape.T,
      config.train.recompute == "block"
          ? "  train.recompute computes blocks a second time, which is not counted\n"
          : "");
  return text;
}

std::string plan_text(const PlannedRun& run, const config::Config& config, int64_t ranks) {
  const Plan::Layout layout = run.plan.layout();
  std::string text = fmt::format("parameters: {}\n{}", run.model->parameters().elements(),
                                 parameter_table(run.model->parameters()));
  text += fmt::format("memory{}:\n{}\ntotal bytes: {}\n", ranks == 1 ? "" : " of each rank", describe(layout),
                      layout.total_bytes);
  if (ranks > 1) {
    text += fmt::format(
        "ranks: {}, together {}. Each holds all weights, gradients and optimizer state: ranks share the "
        "sequences of a step\n"
        "  and nothing else, so memory a rank does not depend on their number. This version trains with one "
        "rank.\n",
        ranks, bytes_text(layout.total_bytes * static_cast<size_t>(ranks)));
  }
  return text + sharing(run, config, ranks) + flops_text(run, config);
}

}  // namespace kiln::plan
