// Errors that say what went wrong and what to do about it.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace kiln {

// What the process returns to the shell; documented in `kiln --help`.
enum class ExitCode : int {
  success = 0,
  failure = 1,      // anything not named below
  usage = 2,        // command line or config
  data = 3,         // text, shards, checkpoints: missing, broken or not fitting the config
  device = 4,       // the asked-for device is not there
  interrupted = 5,  // stopped by a signal after writing a checkpoint
};

// Carries one sentence on what happened (with key, file, line where known), one on what to do, and the exit code.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message, std::string hint = {});
  ~Error() override;  // in error.cpp, with the rest of the class: kernel variants must not bring copies of it
  ExitCode code() const { return code_; }
  const std::string& hint() const { return hint_; }  // empty: nothing to advise

 private:
  ExitCode code_;
  std::string hint_;
};

// Ends in an Error that asks for a report.
[[noreturn]] void broken_promise(const char* message);

// Throws unless `condition`; for broken promises inside the program, not for user input.
inline void require(bool condition, const char* message) {
  if (!condition) broken_promise(message);
}

}  // namespace kiln
