// The line that a person watches while text is read: how far, how fast, how long still.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace kiln::cli {

// Written to standard error, over and over in one place; nothing is written when that is no terminal.
class InputProgress {
 public:
  explicit InputProgress(std::string what);

  // "counting: 120 of 480 MB (25 %), 31 MB/s, ETA 12 s; 5210 documents". `total` -1: unknown, as with a
  // stream. The first call says what was done before, which does not count for the speed.
  void show(int64_t bytes_done, int64_t bytes_total, const std::string& more);
  void note(const std::string& text);  // any other line
  void finish();                       // the line stays; the next one begins below it

 private:
  void write(const std::string& line);

  std::string what_;
  bool terminal_;
  std::chrono::steady_clock::time_point start_;
  int64_t first_bytes_ = -1;
  size_t width_ = 0;  // of the line that stands there
};

}  // namespace kiln::cli
