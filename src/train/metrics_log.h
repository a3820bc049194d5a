// Reading metrics.jsonl back: what a run logged, in the order of its steps. The file comes from outside: numbers that
// no run can have written are not believed.
#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "src/config/config.h"

namespace kiln::train {

struct LoggedStep {
  int64_t step, tokens;  // tokens: trained on so far
  double loss;           // NaN: it was not finite
  double lr, gradient_norm;
  double ms, mfu;  // ms: NaN where it is no time
  double seconds;  // that all steps up to and with this one took, by their own clocks
  bool skipped;
  double optimizer_ms = NAN;  // of ms, the updates; NaN: not logged
  double tail_ms = 0;  // of optimizer_ms, a report about spectra (metrics.tail_rank), which updates nothing
};

struct LoggedValidation {
  int64_t step, tokens;  // tokens and seconds as of the step
  double loss, unigram_entropy;
  double seconds;
};

// Time is the sum of what the steps took: validations, samples, checkpoints and the time between a stop and a resume
// are not in it. Some 80 bytes of memory a step.
struct MetricsLog {
  int64_t run_steps = 0;                      // of the whole run, as it said last; 0: it did not
  std::vector<LoggedStep> steps;              // rising; so are tokens and seconds, none of which is negative
  std::vector<LoggedValidation> validations;  // rising
  int64_t last_sample = 0;                    // the step of the last text drawn; 0: there is none

  int64_t missing_steps = 0;  // up to the last: the disk was full for a while, or lines were taken out
  int64_t rewound = 0;        // lines that went back to an earlier step; what they repeat was dropped
  int64_t broken_lines = 0, first_broken_line = 0;
  bool torn = false;  // the last line has no end: the process was killed, or is writing just now
};

// Lines that are no JSON, that name a step or tokens that no run can have, or that go back where none can are counted
// and passed over, unknown kinds of lines ignored. Throws Error(ExitCode::data) only when the file cannot be read at all.
MetricsLog read_metrics_log(const std::filesystem::path& path);

// The step of one line without its newline, 0 for what the run said before its first; none: it cannot be read.
std::optional<int64_t> step_of_metrics_line(std::string_view line);

// The steps from 1 to `last` that have no line, as ranges from first to last. A run logs every step.
std::vector<std::pair<int64_t, int64_t>> gaps_up_to(const MetricsLog& log, int64_t last);

// Steps of the whole run: what the config says or, where train.epochs decides, what the run said when it began; 0: unknown.
int64_t whole_run(const std::optional<config::Config>& config, int64_t said);

// Median of the steps' times; 0 without steps.
double median_ms(const MetricsLog& log);

// The validation with the least loss (the first of equals); null: there is none that is finite.
const LoggedValidation* best_validation(const MetricsLog& log);

// The part of the steps' time that the updates of all optimizers took, over the steps that logged it and without reports
// about spectra; NaN: none did.
double optimizer_share(const MetricsLog& log);

}  // namespace kiln::train
