// What the harnesses share. Each defines LLVMFuzzerTestOneInput: libFuzzer calls it with inputs of its own
// (see CMakeLists.txt), replay.cpp with the files of the corpus.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "src/core/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace kiln::fuzz {

// Anything but an Error with a message and a hint is a finding.
template <class Action>
void expect_error_or_success(Action action) {
  try {
    action();
  } catch (const Error& error) {
    const bool speaks = !std::string(error.what()).empty() && !error.hint().empty();
    if (!speaks || error.code() == ExitCode::failure) std::abort();
  }
}

}  // namespace kiln::fuzz
