// How a library's entry point answers. What the real library refuses gets its status, and the reason goes to stderr. What
// it would take silently, crash on or leave undefined is a finding, and so is what is not implemented here.
#pragma once

#include <fmt/format.h>

#include <string>

#include "tests/cuda_emulator/findings.h"

namespace kiln::emulator {

template <class Status>
struct Refusal {
  Status status;
  std::string reason;
};

// `broken`: the status after a finding, where that does not end the process.
template <class Status, class Body>
Status answer(const char* api, Status success, Status broken, Body body) {
  try {
    body();
    return success;
  } catch (const Refusal<Status>& refusal) {
    note(fmt::format("{}: {}", api, refusal.reason));
    return refusal.status;
  } catch (const Finding& finding) {
    report(fmt::format("{}: {}", api, finding.what()));
    return broken;
  }
}

[[noreturn]] inline void not_implemented(const std::string& what) {
  throw Finding(fmt::format("{} is not implemented by the emulator", what));
}

}  // namespace kiln::emulator
