#include "src/train/progress.h"

#include <fmt/format.h>

#include <cstdio>

namespace kiln::train {

std::string duration_text(double seconds) {
  const auto s = static_cast<int64_t>(seconds + 0.5);
  if (s >= 3600) return fmt::format("{} h {:02} min", s / 3600, s / 60 % 60);
  if (s >= 60) return fmt::format("{} min {:02} s", s / 60, s % 60);
  return fmt::format("{} s", s);
}

std::string time_text(double seconds) {
  return seconds < 120 ? fmt::format("{:.1f} s", seconds) : duration_text(seconds);
}

void Progress::step(const StepMetrics& m, int64_t done_in_this_process) {
  // The first step of a process warms caches and libraries up: it says nothing about the rest.
  if (done_in_this_process > 1 || m.step == total_steps_) {
    smoothed_ms_ = 0.95 * smoothed_ms_ + 0.05 * m.ms;
    weight_ = 0.95 * weight_ + 0.05;
  }
  const auto now = std::chrono::steady_clock::now();
  const bool due = done_in_this_process <= 3 || m.step == total_steps_ || m.skipped ||
                   now - last_ >= std::chrono::seconds(1);
  if (!due) return;
  last_ = now;
  const double ms = weight_ > 0 ? smoothed_ms_ / weight_ : m.ms;
  const double left = ms * 1e-3 * static_cast<double>(total_steps_ - m.step);
  fmt::print(
      "step {:>6}/{} | loss {:.4f} | lr {:.2e} | norm {:.3f} | {:.0f} ms | {:.0f} tok/s | MFU {:.1f} % | ETA "
      "{}{}\n",
      m.step, total_steps_, m.loss, m.lr, m.gradient_norm, m.ms, m.tokens_per_second, 100 * m.mfu,
      duration_text(left),
      m.skipped ? fmt::format(" | skipped: {} ({} of {} steps)", m.reason, m.skipped_so_far, m.step) : "");
  std::fflush(stdout);
}

}  // namespace kiln::train
