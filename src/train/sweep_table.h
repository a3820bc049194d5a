// What a sweep has found so far, and the table that says it.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "src/train/sweep_spec.h"

namespace kiln::train {

struct SweepResult {
  double loss = std::numeric_limits<
      double>::quiet_NaN();  // final validation, nats a token; infinite: diverged; NaN: not run
  double ms = 0;             // median a step
  double optimizer_share = std::numeric_limits<double>::quiet_NaN();  // of the steps' time; NaN: not reported
  int64_t steps = 0;                                                  // that the run has
  int64_t from = 0;  // the step of another run of the sweep that it went on from; 0: none
};

struct SweepCandidate {
  Settings settings;
  SweepResult result;
  bool kept;
};

struct SeedResult {
  uint64_t seed;
  SweepResult result;
};

struct ArmResult {
  const SweepArm* arm;
  std::vector<std::vector<SweepCandidate>> rungs;
  Settings chosen;
  std::vector<SeedResult> finals;
};

struct SweepTable {
  std::vector<ArmResult> arms;
};

// Every arm's candidates on the first rung, nothing run. `spec` must outlive the table. Throws Error(ExitCode::usage)
// where an arm has a grid and there is no rung to choose on.
SweepTable empty_table(const SweepSpec& spec);

// Marks the `keep` candidates of least loss, the first of equals; diverged ones never stay.
void keep_best(std::vector<SweepCandidate>& candidates, int64_t keep);

// The kept candidate of least loss on the last rung, or the arm's only candidate without rungs; null: none is left.
const Settings* survivor(const ArmResult& arm);

// Mean, sample standard deviation (n - 1; NaN for fewer than two), least and greatest loss. A diverged run makes the mean
// and the greatest infinite and the deviation NaN.
struct Spread {
  double mean, deviation, least, greatest;
};
Spread spread(const std::vector<SeedResult>& finals);

std::string loss_text(double loss);  // "3.2801", "diverged", "-"

// The same two tables, seeds first and then the rungs: for a terminal, for a page, for machines.
std::string text(const SweepTable& table);
std::string markdown(const SweepTable& table);
std::string to_json(const SweepTable& table);

}  // namespace kiln::train
