// Copies between the host's ordinary memory and a device, through pinned buffers of a fixed size.
#pragma once

#include <cstddef>

#include "src/device/cuda.h"

namespace kiln {

// Two pinned buffers in turn: while one is on its way, the other is filled or emptied. All that is pinned is allocated at
// construction.
class CudaStaging {
 public:
  explicit CudaStaging(size_t buffer_bytes = size_t{4} << 20);
  ~CudaStaging();
  CudaStaging(const CudaStaging&) = delete;
  CudaStaging& operator=(const CudaStaging&) = delete;

  // In the order of `stream`. When it returns `from` has been read, but the last pieces may still be on their way.
  void upload(void* to_device, const void* from, size_t bytes, const CudaStream& stream);

  // In the order of `stream`. When it returns, all of it has arrived.
  void download(void* to, const void* from_device, size_t bytes, const CudaStream& stream);

 private:
  struct Buffer {
    void* memory = nullptr;
    CudaEvent used;  // after the last copy from or to it
  };
  Buffer& next();  // the buffer whose turn it is, free to be used

  size_t buffer_bytes_;
  Buffer buffers_[2];
  int turn_ = 0;
};

}  // namespace kiln
