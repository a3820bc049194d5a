// Errors that say what went wrong and what to do about it.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

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
  Error(ExitCode code, const std::string& message, std::string hint = {})
      : std::runtime_error(message), code_(code), hint_(std::move(hint)) {}
  ExitCode code() const { return code_; }
  const std::string& hint() const { return hint_; }  // empty: nothing to advise

 private:
  ExitCode code_;
  std::string hint_;
};

// Throws unless `condition`; for broken promises inside the program, not for user input.
inline void require(bool condition, const char* message) {
  if (!condition) throw Error(ExitCode::failure, message, "this is a bug in kiln: please report it");
}

}  // namespace kiln
