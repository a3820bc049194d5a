#include "src/train/sweep_progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "src/train/progress.h"

namespace kiln::train {
namespace {

// What a file holds from `begin` on, its last few kilobytes only.
std::string end_of(const std::filesystem::path& path, uintmax_t begin) {
  constexpr uintmax_t kMost = 4096;
  std::error_code not_there;
  const uintmax_t bytes = std::filesystem::file_size(path, not_there);
  if (not_there || bytes <= begin) return {};
  const uintmax_t from = bytes - begin > kMost ? bytes - kMost : begin;
  std::string text(static_cast<size_t>(bytes - from), '\0');
  std::ifstream file(path, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(from));
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::max<std::streamsize>(0, file.gcount())));
  return text;
}

}  // namespace

double seconds_left(const SweepLeft& left, const std::vector<double>& seconds_per_step) {
  double sum = 0, known = 0;
  for (const double seconds : seconds_per_step) {
    sum += seconds;
    known += seconds > 0;
  }
  if (known == 0) return -1;
  double total = 0;
  for (size_t arm = 0; arm < left.steps.size(); arm++) {
    total += left.steps[arm] * (seconds_per_step[arm] > 0 ? seconds_per_step[arm] : sum / known);
  }
  return total;
}

LoggedLine last_step_line(const std::string& output) {
  LoggedLine last;
  for (size_t end = output.find('\n'), begin = 0; end != std::string::npos;
       begin = end + 1, end = output.find('\n', begin)) {
    long long step = 0, steps = 0;
    double loss = 0;
    const std::string line = output.substr(begin, end - begin);
    if (std::sscanf(line.c_str(), "step %lld/%lld | loss %lf", &step, &steps, &loss) == 3)
      last = {step, loss};
  }
  return last;
}

void say(const std::string& words) {
  std::fputs(words.c_str(), stderr);  // unlike fmt::print it does not throw
  std::fflush(stderr);
}

SweepProgress::SweepProgress(size_t arms)
    : terminal_(isatty(fileno(stderr)) != 0), seconds_per_step_(arms, 0.0) {}

void SweepProgress::speed(size_t arm, double seconds_per_step) {
  seconds_per_step_[arm] = seconds_per_step;
}

void SweepProgress::note(const std::string& line) {
  say(line + "\n");
}

void SweepProgress::begin(size_t arm, int64_t number, const std::string& what, int64_t step, int64_t steps,
                          const std::filesystem::path& log, const SweepLeft& left) {
  arm_ = arm, number_ = number, what_ = what, steps_ = steps, log_ = log, left_ = left;
  first_step_ = step, seen_step_ = 0;
  std::error_code not_there;
  log_begin_ = std::filesystem::file_size(log, not_there);
  if (not_there) log_begin_ = 0;
  start_ = last_shown_ = Clock::now();
  show(fmt::format("step {}/{}{}", step, steps, eta(-1)));
}

void SweepProgress::tick() {
  const auto now = Clock::now();
  const auto due = terminal_ ? std::chrono::seconds(1) : std::chrono::seconds(30);
  if (now - last_shown_ < due) return;
  last_shown_ = now;
  const LoggedLine last = last_step_line(end_of(log_, log_begin_));
  if (last.step == 0) return;
  if (seen_step_ == 0) {  // what came before it is start-up
    seen_step_ = last.step;
    first_seen_ = now;
  }
  double run_seconds = -1;
  if (last.step > seen_step_) {
    seconds_per_step_[arm_] = std::chrono::duration<double>(now - first_seen_).count() /
                              static_cast<double>(last.step - seen_step_);
    run_seconds = seconds_per_step_[arm_] * static_cast<double>(steps_ - last.step);
  }
  show(fmt::format("step {}/{}, loss {:.4f}{}", last.step, steps_, last.loss, eta(run_seconds)));
}

void SweepProgress::end(const std::string& outcome) {
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  if (steps_ > first_step_) seconds_per_step_[arm_] = seconds / static_cast<double>(steps_ - first_step_);
  show(fmt::format("{} after {} steps, took {}{}", outcome, steps_, duration_text(seconds), eta(-1)));
  if (terminal_) say("\n");
  width_ = 0;
}

// Of the run, where that is known, and of the whole sweep.
std::string SweepProgress::eta(double run_seconds) const {
  const double after = seconds_left(left_, seconds_per_step_);
  if (after < 0) return {};
  if (run_seconds < 0) return fmt::format("; {} runs after it, ETA {}", left_.runs, duration_text(after));
  return fmt::format(", ETA {}; {} runs after it, ETA of all {}", duration_text(run_seconds), left_.runs,
                     duration_text(run_seconds + after));
}

void SweepProgress::show(const std::string& line) {
  const std::string whole = fmt::format("[{}/{}] {}: {}", number_, number_ + left_.runs, what_, line);
  say(terminal_ ? fmt::format("\r{:<{}}", whole, width_) : fmt::format("{}\n", whole));
  width_ = whole.size();
}

}  // namespace kiln::train
