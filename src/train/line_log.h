// A text file that grows by whole lines, and keeps growing by whole lines when the disk fails for a while.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace kiln::train {

// A line that cannot be written waits, up to kMostWaiting bytes of them, and goes out before the next one;
// whatever part of it reached the file is written over. Nothing here throws but the constructor: a log never
// ends a run.
class LineLog {
 public:
  static constexpr size_t kMostWaiting = 32 * 1024;  // more is dropped, oldest lines kept

  // Appends to the file, or creates it. Throws Error(ExitCode::data) with the path and the system's reason.
  explicit LineLog(const std::filesystem::path& path);
  ~LineLog();
  LineLog(const LineLog&) = delete;
  LineLog& operator=(const LineLog&) = delete;

  void write(std::string_view line);  // without the newline
  void sync();                        // to the disk
  int64_t dropped() const { return dropped_; }

 private:
  void flush();
  void warn(const char* what);

  std::filesystem::path path_;
  int descriptor_ = -1;
  int64_t length_ = 0;   // of the whole lines in the file
  std::string waiting_;  // lines that are not there yet
  int64_t dropped_ = 0;
  bool failing_ = false;  // a failure is reported once, and so is its end
};

}  // namespace kiln::train
