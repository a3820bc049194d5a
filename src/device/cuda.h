// CUDA as the rest of Kiln sees it: no type of CUDA's appears here. In a kiln built without CUDA the questions answer "no" and
// what the rest of Kiln calls throws Error(ExitCode::device) with one plain sentence; streams, events, uninitialised memory
// and staging (cuda_staging.h), which only code of CUDA uses, are not there.
#pragma once

#include <cstddef>
#include <string>

#include "src/device/device.h"

namespace kiln {

inline constexpr int kLeastCapability = 80;  // what every kernel may use: Ampere

bool has_cuda();  // built in

// Why nothing can run on a GPU here, as one sentence without a full stop ("no CUDA driver on this machine"), and what
// to do about it. An empty sentence: there is a device.
struct CudaObstacle {
  std::string sentence, hint;
};
CudaObstacle cuda_obstacle();

// "13.0, driver 13.0, 1 device: NVIDIA H100 (sm_90, 79.10 GiB)", or "13.0; no CUDA driver on this machine": for kiln
// --version.
std::string cuda_versions();

// The GPU of that number, which becomes the one that this thread's further calls mean. Error(ExitCode::device) without
// one, or if its compute capability is below kLeastCapability.
Device cuda_device(int index = 0);

// What a plan for a GPU of whatever kind is made for: no driver is asked. Error(ExitCode::device) if CUDA is not built
// in.
Device planned_cuda_device();

// Memory of the device, by cudaMalloc, aligned to 256 bytes. Null if there is not enough. Never zero bytes.
void* cuda_allocate(size_t bytes);         // uninitialised
void* cuda_allocate_zeroed(size_t bytes);  // the zeros are there when it returns
void cuda_release(void* memory) noexcept;
size_t cuda_memory_left();  // bytes

class CudaEvent;

// Work in the order in which it was given; ordered against other streams by events alone.
class CudaStream {
 public:
  CudaStream();
  ~CudaStream();
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  void* handle() const { return handle_; }  // a cudaStream_t, for Context::stream
  void wait_for(const CudaEvent& event);    // what comes next runs after what the event recorded
  void synchronize();                       // the host waits for all of it; errors of kernels surface here

 private:
  void* handle_ = nullptr;
};

// A point in a stream.
class CudaEvent {
 public:
  CudaEvent();
  ~CudaEvent();
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  void* handle() const { return handle_; }  // a cudaEvent_t
  void record(const CudaStream& stream);
  void synchronize() const;  // the host waits for the point last recorded; for none, it does not

 private:
  void* handle_ = nullptr;
};

}  // namespace kiln
