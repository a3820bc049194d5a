// The lines a person watches while a sweep trains: on stderr, so that stdout holds the table alone.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace kiln::train {

// What is still to be trained.
struct SweepLeft {
  int64_t runs = 0;
  std::vector<double> steps;  // [arm]
};

// Seconds that the steps left take, where an arm whose speed is not known takes the mean of those that are (in seconds a
// step; 0: not known); negative: none is known.
double seconds_left(const SweepLeft& left, const std::vector<double>& seconds_per_step);

// The step, and the loss there, of the last "step 12/300 | loss 3.1234 | ..." line of a run's output; step 0: there is none.
struct LoggedLine {
  int64_t step = 0;
  double loss = 0;
};
LoggedLine last_step_line(const std::string& output);

// To stderr; a reader of it that has gone away is no reason to end a sweep.
void say(const std::string& words);

class SweepProgress {
 public:
  explicit SweepProgress(size_t arms);

  void speed(size_t arm, double seconds_per_step);  // what an earlier call's run took
  void note(const std::string& line);

  // A run begins at `step` of `steps`, as number `number`; its output is appended to `log`. `left`: after it.
  void begin(size_t arm, int64_t number, const std::string& what, int64_t step, int64_t steps,
             const std::filesystem::path& log, const SweepLeft& left);
  void tick();  // often: shows the run's step, once a second on a terminal, twice a minute elsewhere
  void end(const std::string& outcome);

 private:
  using Clock = std::chrono::steady_clock;
  void show(const std::string& line);
  std::string eta(double run_seconds) const;

  const bool terminal_;
  std::vector<double> seconds_per_step_;  // [arm]; 0: not known
  size_t arm_ = 0, width_ = 0;
  std::string what_;
  int64_t number_ = 0, steps_ = 0, first_step_ = 0, seen_step_ = 0;
  std::filesystem::path log_;
  uintmax_t log_begin_ = 0;
  SweepLeft left_;
  Clock::time_point start_, first_seen_, last_shown_;
};

}  // namespace kiln::train
