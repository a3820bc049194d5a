#include "src/cli/input_progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "src/train/progress.h"

namespace kiln::cli {

InputProgress::InputProgress(std::string what)
    : what_(std::move(what)),
      terminal_(isatty(fileno(stderr)) != 0),
      start_(std::chrono::steady_clock::now()) {}

void InputProgress::show(int64_t bytes_done, int64_t bytes_total, const std::string& more) {
  if (first_bytes_ < 0) first_bytes_ = bytes_done;
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start_;
  const double speed =
      static_cast<double>(bytes_done - first_bytes_) / std::max(seconds.count(), 1e-3);  // bytes/s
  const double megabytes = static_cast<double>(bytes_done) * 1e-6;
  std::string line = fmt::format("{}: {:.0f} MB", what_, megabytes);
  if (bytes_total > 0) {
    line = fmt::format("{}: {:.0f} of {:.0f} MB ({:.0f} %)", what_, megabytes,
                       static_cast<double>(bytes_total) * 1e-6,
                       100.0 * static_cast<double>(bytes_done) / static_cast<double>(bytes_total));
  }
  line += fmt::format(", {:.1f} MB/s", speed * 1e-6);
  if (bytes_total > bytes_done && speed > 0) {
    line +=
        fmt::format(", ETA {}", train::duration_text(static_cast<double>(bytes_total - bytes_done) / speed));
  }
  line += "; ";
  write(line.append(more));
}

void InputProgress::note(const std::string& text) {
  write(text);
}

void InputProgress::write(const std::string& line) {
  if (!terminal_) return;
  fmt::print(stderr, "\r{:<{}}", line, width_);
  std::fflush(stderr);
  width_ = line.size();
}

void InputProgress::finish() {
  if (terminal_ && width_ > 0) fmt::print(stderr, "\n");
  width_ = 0;
}

}  // namespace kiln::cli
