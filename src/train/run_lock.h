// One process trains in a run folder at a time.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

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

// The number of the process that trains in `run` now ("?" where it wrote none); none if no process does. Looks and
// changes nothing: a run that starts at that moment is not kept from it.
std::optional<std::string> process_training_in(const std::filesystem::path& run);

}  // namespace kiln::train
