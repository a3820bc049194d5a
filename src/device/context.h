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
  size_t workspace_bytes = 0;   // the most that is taken at any one time
  size_t held_bytes = 0;        // what callers of kernels hold meanwhile (Scratch)
  double flops = 0;             // a multiply-add counts as two
  double recomputed_flops = 0;  // those of them that repeat others, to save memory
  std::map<std::string_view, double> kernel_flops;
  std::map<std::string_view, int64_t> kernel_calls;
};

// `calls` made `times` times, recorded at the cost of once: what is equal need not be gone through in a loop.
inline void record_times(DryRun& record, int64_t times, FunctionRef<void()> calls) {
  if (times == 0) return;
  const DryRun before = record;
  calls();
  const auto more = static_cast<double>(times - 1);
  record.flops += more * (record.flops - before.flops);
  record.recomputed_flops += more * (record.recomputed_flops - before.recomputed_flops);
  const auto earlier = [](const auto& map, std::string_view kernel) {
    const auto found = map.find(kernel);
    return found == map.end() ? 0 : found->second;
  };
  for (auto& [kernel, flops] : record.kernel_flops)
    flops += more * (flops - earlier(before.kernel_flops, kernel));
  for (auto& [kernel, calls_of] : record.kernel_calls) {
    calls_of += (times - 1) * (calls_of - earlier(before.kernel_calls, kernel));
  }
}

struct Context {
  Device device;
  ThreadPool* pool = nullptr;  // device.threads threads; null in a dry run
  Workspace workspace;
  void* stream = nullptr;  // of a GPU: the stream that kernels run in (CudaStream::handle)
  std::unique_ptr<LibraryState> libraries;
  DryRun* dry_run = nullptr;  // set: record, do not compute
};

}  // namespace kiln
