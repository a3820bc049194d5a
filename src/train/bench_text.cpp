#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "src/device/plan.h"
#include "src/train/bench.h"
#include "src/train/progress.h"

namespace kiln::train {
namespace {

using nlohmann::ordered_json;

std::string row(const std::string& name, const Spread& s, double whole) {
  return fmt::format("  {:<24} {:>9.2f} {:>9.2f} {:>9.2f} {:>9.2f} {:>7.1f} %\n", name, s.median, s.least,
                     s.most, s.mean, 100 * s.mean / whole);
}

ordered_json spread_json(const Spread& s) {
  return {{"median", s.median}, {"least", s.least}, {"most", s.most}, {"mean", s.mean}};
}

}  // namespace

std::string text_of(const BenchResult& r) {
  const auto& p = r.peak_shape;
  std::string text =
      fmt::format("device: {}\nmemory, planned as for training: {}\n", r.device, bytes_text(r.planned_bytes));
  text += fmt::format(
      "ceiling: {:.1f} Gflop/s = 2 x {} x {} x {} / s, the fp32 product of {} x {} by {} x {}, the best of "
      "several trials\n",
      r.measured_peak_gflops, p.rows, p.N, p.K, p.rows, p.K, p.K, p.N);
  if (r.peak_gflops > r.measured_peak_gflops) {
    text += fmt::format(
        "  a step was faster, {:.1f} Gflop/s: that is the ceiling below (was the machine busy before?)\n",
        r.peak_gflops);
  }
  text += fmt::format("step: {} tokens, {} micro-batch{}; {} steps measured\n", r.step_tokens,
                      r.micro_batches, r.micro_batches == 1 ? "" : "es", r.steps);
  text += fmt::format("  {:<24} {:>9} {:>9} {:>9} {:>9} {:>9}\n", "ms", "median", "least", "most", "mean",
                      "of mean");
  text += row("forward + backward", r.passes, r.step.mean);
  for (const auto& [name, spread] : r.optimizers) text += row("optimizer " + name, spread, r.step.mean);
  text += row("norm and rest", r.rest, r.step.mean) + row("step", r.step, r.step.mean);
  text += fmt::format("tokens/s: {:.0f} (of the mean; {:.0f} of the median step)\n", r.tokens_per_second(),
                      static_cast<double>(r.step_tokens) / r.step.median * 1e3);
  text += fmt::format("MFU: {:.1f} % = {:.0f} tokens/s x {:.4g} Mflop/token / {:.1f} Gflop/s\n",
                      100 * r.mfu(), r.tokens_per_second(), r.flops_per_token * 1e-6, r.peak_gflops);
  if (r.config_micro_batches != r.micro_batches) {
    text += fmt::format(
        "a step of the config has {} micro-batches: {} by these times, the optimizers {:.1f} % of it\n",
        r.config_micro_batches, duration_text(r.config_step_ms() * 1e-3),
        100 * r.optimizer_mean_ms() / r.config_step_ms());
  }
  return text;
}

std::string json_of(const BenchResult& r) {
  ordered_json out = {
      {"device", r.device},
      {"planned_bytes", r.planned_bytes},
      {"ceiling_gflops", r.peak_gflops},
      {"measured_gemm_gflops", r.measured_peak_gflops},
      {"gemm_shape", {{"rows", r.peak_shape.rows}, {"N", r.peak_shape.N}, {"K", r.peak_shape.K}}},
      {"step_tokens", r.step_tokens},
      {"micro_batches", r.micro_batches},
      {"config_micro_batches", r.config_micro_batches},
      {"steps", r.steps},
      {"flops_per_token", r.flops_per_token},
      {"tokens_per_second", r.tokens_per_second()},
      {"mfu", r.mfu()},
      {"ms",
       {{"step", spread_json(r.step)},
        {"forward_backward", spread_json(r.passes)},
        {"rest", spread_json(r.rest)}}},
      {"optimizers", ordered_json::object()},
      {"config_step_ms", r.config_step_ms()},
      {"step_ms", r.step_ms}};
  for (const auto& [name, spread] : r.optimizers) {
    out["optimizers"][name] = spread_json(spread);
    out["optimizers"][name]["share"] = spread.mean / r.step.mean;
  }
  return out.dump(2) + "\n";
}

}  // namespace kiln::train
