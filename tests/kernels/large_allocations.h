// Watches for allocations that bypass the plan: malloc, its relatives and mmap are replaced in the test
// program by functions that note large requests and pass everything on.
#pragma once

#include <cstddef>

namespace kiln::tests {

// False under sanitizers, which replace the allocator themselves.
bool can_watch_allocations();

// The largest request by any thread since the object was made. One at a time.
class AllocationWatch {
 public:
  AllocationWatch();
  ~AllocationWatch();
  size_t largest() const;
};

}  // namespace kiln::tests
