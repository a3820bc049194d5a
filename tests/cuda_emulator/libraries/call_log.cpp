#include "tests/cuda_emulator/libraries/call_log.h"

#include <utility>

namespace kiln::emulator {

namespace {

std::vector<LibraryCall>& calls() {
  static auto* all = new std::vector<LibraryCall>;
  return *all;
}

}  // namespace

const std::vector<LibraryCall>& library_calls() {
  return calls();
}

void clear_library_calls() {
  calls().clear();
}

void log_call(LibraryCall call) {
  calls().push_back(std::move(call));
}

}  // namespace kiln::emulator
