// Scratch memory for the length of one kernel call.
#pragma once

#include <cstddef>

#include "src/core/error.h"
#include "src/device/plan.h"

namespace kiln {

// A stack over one planned buffer. Kernels open a Scope and take from it; everything goes back when the scope closes.
class Workspace {
 public:
  Workspace() = default;
  Workspace(void* base, size_t bytes) : base_(static_cast<char*>(base)), bytes_(bytes) {}

  // What `count` elements of T take out of a workspace: X_workspace_bytes functions add these up.
  template <class T>
  static constexpr size_t bytes_for(int64_t count) {
    return (static_cast<size_t>(count) * sizeof(T) + Plan::kAlignment - 1) / Plan::kAlignment * Plan::kAlignment;
  }

  class Scope {
   public:
    explicit Scope(Workspace& workspace) : workspace_(workspace), mark_(workspace.used_) {}
    ~Scope() { workspace_.used_ = mark_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

    // Uninitialised memory; throws if the kernel asks for more than its X_workspace_bytes promised.
    template <class T>
    T* take(int64_t count) {
      return reinterpret_cast<T*>(workspace_.take_bytes(bytes_for<T>(count)));
    }

   private:
    Workspace& workspace_;
    size_t mark_;
  };

  size_t bytes() const { return bytes_; }

 private:
  char* take_bytes(size_t n) {
    require(used_ + n <= bytes_, "a kernel wants more workspace than it announced");
    char* p = base_ + used_;
    used_ += n;
    return p;
  }

  char* base_ = nullptr;
  size_t bytes_ = 0, used_ = 0;
};

}  // namespace kiln
