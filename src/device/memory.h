// How much memory this process may still take, and what happens when a plan needs more.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

#include "src/core/error.h"
#include "src/device/plan.h"

namespace kiln {

struct MemoryLeft {
  size_t bytes = SIZE_MAX;
  std::string why;  // what leaves no more, as a sentence's end: "the machine has 3.10 GiB free"
};

// The least of what is free in the machine, in the control groups (v2) of the process and all above them, and below its
// limits on address space and data (ulimit -v, -d). What the system does not tell is no limit. `root`: of the file
// system that is asked.
MemoryLeft memory_left(const std::filesystem::path& root = "/");

// Error(ExitCode::failure) with the plan by category; an Arena throws it.
class OutOfMemory : public Error {
 public:
  OutOfMemory(const Plan::Layout& layout, const std::string& why);
};

// Throws OutOfMemory when the layout needs more than the process may take (better now than by a signal once its pages
// are touched) or, on a GPU, more than is free there.
void require_memory(const Plan::Layout& layout, const Device& device);

}  // namespace kiln
