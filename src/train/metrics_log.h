// Reading metrics.jsonl back: what a run logged, in the order of its steps.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace kiln::train {

struct LoggedStep {
  int64_t step, tokens;  // tokens: trained on so far
  double loss;           // NaN: it was not finite
  double lr, gradient_norm;
  double ms, mfu;
  double seconds;  // that all steps up to and with this one took, by their own clocks
  bool skipped;
};

struct LoggedValidation {
  int64_t step, tokens;  // tokens and seconds as of the step
  double loss, unigram_entropy;
  double seconds;
};

// Time is the sum of what the steps took: validations, samples, checkpoints and the time between a stop and a resume
// are not in it. Some 70 bytes of memory a step.
struct MetricsLog {
  std::vector<LoggedStep> steps;              // rising
  std::vector<LoggedValidation> validations;  // rising

  // Of the reports of KL-Shampoo and Pro-KLShampoo (metrics.every): what they timed, and the time of the steps they cover.
  double optimizer_ms = 0, reported_ms = 0;

  int64_t missing_steps = 0;  // between the first and the last: the disk was full for a while
  int64_t rewound = 0;        // lines that went back to an earlier step; what they repeat was dropped
  int64_t broken_lines = 0, first_broken_line = 0;
  bool torn = false;  // the last line has no end: the process was killed, or is writing just now
};

// Lines that are no JSON are counted and passed over, unknown kinds of lines ignored. Throws Error(ExitCode::data)
// only when the file cannot be read at all.
MetricsLog read_metrics_log(const std::filesystem::path& path);

// Median of the steps' times; 0 without steps.
double median_ms(const MetricsLog& log);

// The validation with the least loss (the first of equals); null: there is none that is finite.
const LoggedValidation* best_validation(const MetricsLog& log);

// The part of the steps' time that KL-Shampoo or Pro-KLShampoo reported for itself (others report no times); NaN: no reports.
double optimizer_share(const MetricsLog& log);

}  // namespace kiln::train
