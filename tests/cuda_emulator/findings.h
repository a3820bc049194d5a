// What the emulator has to say against a program.
//
// A finding ends the kernel (or copy) that it was made in. Unless a test captures it, it is printed and ends the process
// with kFindingExit, so that no test can pass by accident.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

namespace kiln::emulator {

constexpr int kFindingExit = 86;

// Thrown where the fault is found, caught where the operation was started.
struct Finding : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Prints the finding and ends the process, or hands it to the innermost FindingCapture.
void report(const std::string& text);

// Says something that a program is told through an error code as well: to the capture, or to stderr, and goes on.
void note(const std::string& text);

size_t findings_so_far();

// Collects what is reported while it lives, instead of ending the process.
class FindingCapture {
 public:
  FindingCapture();
  ~FindingCapture();
  FindingCapture(const FindingCapture&) = delete;
  FindingCapture& operator=(const FindingCapture&) = delete;

  const std::vector<std::string>& findings() const { return findings_; }
  std::string all() const;  // one under the other
  void clear() { findings_.clear(); }

 private:
  friend void report(const std::string& text);
  friend void note(const std::string& text);
  std::vector<std::string> findings_;
  FindingCapture* outer_;
};

}  // namespace kiln::emulator
