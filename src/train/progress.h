// The lines a person watches.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "src/train/run_folder.h"

namespace kiln::train {

// Prints step lines to stdout, at most about one a second (metrics.jsonl has every step), with an ETA from a
// smoothed step time.
class Progress {
 public:
  explicit Progress(int64_t total_steps) : total_steps_(total_steps) {}
  void step(const StepMetrics& metrics, int64_t done_in_this_process);

 private:
  int64_t total_steps_;
  double smoothed_ms_ = 0, weight_ = 0;
  std::chrono::steady_clock::time_point last_{};
};

// "1 h 02 min", "3 min 20 s", "45 s"
std::string duration_text(double seconds);

// The same, but "45.1 s" below two minutes, where rounding would take too much away.
std::string time_text(double seconds);

}  // namespace kiln::train
