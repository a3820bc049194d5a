// Scratch memory that a caller of kernels holds over several calls.
#pragma once

#include <algorithm>

#include "src/device/context.h"

namespace kiln {

// Takes from the context's workspace and gives back what it took when it ends. In a dry run it hands out null
// pointers and records the bytes, so that workspaces are planned by the code that uses them.
class Scratch {
 public:
  explicit Scratch(Context& context) : context_(context), scope_(context.workspace) {
    if (context.dry_run) mark_ = context.dry_run->held_bytes;
  }
  ~Scratch() {
    if (context_.dry_run) context_.dry_run->held_bytes = mark_;
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Uninitialised memory for `count` elements.
  template <class T>
  T* take(int64_t count) {
    if (!context_.dry_run) return scope_.template take<T>(count);
    DryRun& record = *context_.dry_run;
    record.held_bytes += Workspace::bytes_for<T>(count);
    record.workspace_bytes = std::max(record.workspace_bytes, record.held_bytes);
    return nullptr;
  }

  // A table of `count` pointers to matrices of `elements` floats each.
  float** matrices(int64_t count, int64_t elements) {
    float** table = take<float*>(count);
    const int64_t stride = static_cast<int64_t>(Workspace::bytes_for<float>(elements) / sizeof(float));
    float* base = take<float>(count * stride);
    if (table) {
      for (int64_t i = 0; i < count; i++) table[i] = base + i * stride;
    }
    return table;
  }

 private:
  Context& context_;
  Workspace::Scope scope_;
  size_t mark_ = 0;
};

}  // namespace kiln
