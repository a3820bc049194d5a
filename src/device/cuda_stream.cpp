#include <cuda_runtime_api.h>

#include "src/device/cuda.h"
#include "src/device/cuda_check.h"

namespace kiln {
namespace {

cudaStream_t stream_of(void* handle) {
  return static_cast<cudaStream_t>(handle);
}
cudaEvent_t event_of(void* handle) {
  return static_cast<cudaEvent_t>(handle);
}

}  // namespace

CudaStream::CudaStream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
  handle_ = stream;
}

// Work that is still running goes on to its end.
CudaStream::~CudaStream() {
  cudaStreamDestroy(stream_of(handle_));
}

void CudaStream::wait_for(const CudaEvent& event) {
  check(cudaStreamWaitEvent(stream_of(handle_), event_of(event.handle()), 0), "ordering streams");
}

void CudaStream::synchronize() {
  check(cudaStreamSynchronize(stream_of(handle_)), "waiting for the GPU");
}

CudaEvent::CudaEvent() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
  handle_ = event;
}

CudaEvent::~CudaEvent() {
  cudaEventDestroy(event_of(handle_));
}

void CudaEvent::record(const CudaStream& stream) {
  check(cudaEventRecord(event_of(handle_), stream_of(stream.handle())), "recording an event");
}

void CudaEvent::synchronize() const {
  check(cudaEventSynchronize(event_of(handle_)), "waiting for the GPU");
}

}  // namespace kiln
