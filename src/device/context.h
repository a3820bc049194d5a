// What every kernel is handed first: the device, its threads, scratch memory, and what the libraries keep.
#pragma once

#include <map>
#include <memory>
#include <string_view>

#include "src/core/parallel.h"
#include "src/device/device.h"
#include "src/device/workspace.h"

namespace kiln {

// What a backend's libraries keep between calls (handles, compiled primitives); each backend derives its own.
struct LibraryState {
  virtual ~LibraryState() = default;
};

// A dry run executes the same list of kernel calls without computing: each call only reports what it would need.
// Pointers may then be null. So plans and flop counts come from the very code that runs.
struct DryRun {
  size_t workspace_bytes = 0;                     // the most that is taken at any one time
  size_t held_bytes = 0;                          // what callers of kernels hold meanwhile (Scratch)
  double flops = 0;                               // a multiply-add counts as two
  double recomputed_flops = 0;                    // those of them that repeat others, to save memory
  std::map<std::string_view, double> kernel_flops;
  std::map<std::string_view, int64_t> kernel_calls;
};

struct Context {
  Device device;
  ThreadPool* pool = nullptr;  // device.threads threads; null in a dry run
  Workspace workspace;
  std::unique_ptr<LibraryState> libraries;
  DryRun* dry_run = nullptr;   // set: record, do not compute
};

}  // namespace kiln
