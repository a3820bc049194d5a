// One process trains in a run folder at a time.
#pragma once

#include <filesystem>

namespace kiln::train {

// Holds `<run>/lock` (flock) until it is destroyed or the process ends, however that happens. Throws
// Error(ExitCode::usage) with the number of the process that has it. A file system without locks gives a
// warning only.
class RunLock {
 public:
  static constexpr const char* kFile = "lock";
  explicit RunLock(const std::filesystem::path& run);  // the folder must exist
  ~RunLock();
  RunLock(RunLock&& other) noexcept;
  RunLock& operator=(RunLock&& other) noexcept;

 private:
  int descriptor_ = -1;
};

}  // namespace kiln::train
