// How fast a config trains on this machine: the steps of a real run on random tokens.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/gemm_peak.h"
#include "src/config/config.h"

namespace kiln::train {

struct BenchOptions {
  int64_t steps = 20, warmup = 3;
  int64_t micro_batches = 0;  // of a measured step; 0: as many as the config wants
};

// Milliseconds of one part of a step over the measured steps.
struct Spread {
  double median, least, most, mean;
};
Spread spread_of(const std::vector<double>& values);  // at least one

struct BenchResult {
  std::string device;  // name, instruction set, threads
  kernels::GemmPeakShape peak_shape;
  double peak_gflops = 0;           // the best product, or a step that was faster
  double measured_peak_gflops = 0;  // the best product
  size_t planned_bytes = 0;
  int64_t step_tokens = 0;           // of a measured step
  int64_t micro_batches = 0;         // of a measured step
  int64_t config_micro_batches = 0;  // of a step of the config
  int64_t steps = 0;
  double flops_per_token = 0;
  Spread step, passes, rest;                               // rest: gradient norm, and what is not named
  std::vector<std::pair<std::string, Spread>> optimizers;  // by name
  std::vector<double> step_ms;

  double optimizer_mean_ms() const;
  double tokens_per_second() const;  // over all measured steps
  double mfu() const;
  // Of a step with the config's micro-batches: what was measured where they are as many, else passes scaled up.
  double config_step_ms() const;
};

// Plans and allocates as a run does, writes nothing but a temporary file of random tokens, and calls the very step of
// the trainer. `progress` gets steps done, warm-up included, of how many. Stops at a signal, with
// Error(ExitCode::interrupted).
BenchResult bench(const config::Config& config, const BenchOptions& options,
                  const std::function<void(int64_t done, int64_t all)>& progress = {});

std::string text_of(const BenchResult& result);
std::string json_of(const BenchResult& result);

}  // namespace kiln::train
