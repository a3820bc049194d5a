#include "tests/cuda_emulator/findings.h"

#include <unistd.h>

#include <cstdio>

namespace kiln::emulator {

namespace {

FindingCapture* innermost = nullptr;
size_t reported = 0;

}  // namespace

void report(const std::string& text) {
  ++reported;
  if (innermost != nullptr) {
    innermost->findings_.push_back(text);
    return;
  }
  std::fflush(stdout);
  std::fprintf(stderr, "\nCUDA emulator: %s\n", text.c_str());
  std::fflush(stderr);
  _exit(kFindingExit);
}

void note(const std::string& text) {
  if (innermost != nullptr) {
    innermost->findings_.push_back(text);
  } else {
    std::fprintf(stderr, "CUDA emulator: %s\n", text.c_str());
  }
}

size_t findings_so_far() {
  return reported;
}

FindingCapture::FindingCapture() : outer_(innermost) {
  innermost = this;
}

FindingCapture::~FindingCapture() {
  innermost = outer_;
}

std::string FindingCapture::all() const {
  std::string text;
  for (const std::string& each : findings_) text += each + "\n";
  return text;
}

}  // namespace kiln::emulator
