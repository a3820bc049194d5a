#include "src/device/cuda_staging.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>

#include "src/core/error.h"
#include "src/device/cuda_check.h"

namespace kiln {
namespace {

cudaStream_t handle_of(const CudaStream& stream) {
  return static_cast<cudaStream_t>(stream.handle());
}

}  // namespace

CudaStaging::CudaStaging(size_t buffer_bytes) : buffer_bytes_(buffer_bytes) {
  require(buffer_bytes > 0, "staging needs a buffer");
  // One allocation, so that a failure leaves nothing behind.
  void* memory = nullptr;
  check(cudaMallocHost(&memory, 2 * buffer_bytes_), "allocating pinned memory");
  buffers_[0].memory = memory;
  buffers_[1].memory = static_cast<char*>(memory) + buffer_bytes_;
}

// Copies may still be under way, also after an exception, and nothing says that cudaFreeHost waits for them. Where these
// calls fail, so has the GPU, and whoever uses it next is told.
CudaStaging::~CudaStaging() {
  for (const Buffer& buffer : buffers_) cudaEventSynchronize(static_cast<cudaEvent_t>(buffer.used.handle()));
  cudaFreeHost(buffers_[0].memory);
}

CudaStaging::Buffer& CudaStaging::next() {
  Buffer& buffer = buffers_[turn_];
  turn_ = 1 - turn_;
  buffer.used.synchronize();
  return buffer;
}

void CudaStaging::upload(void* to_device, const void* from, size_t bytes, const CudaStream& stream) {
  for (size_t at = 0; at < bytes; at += buffer_bytes_) {
    const size_t piece = std::min(buffer_bytes_, bytes - at);
    Buffer& buffer = next();
    std::memcpy(buffer.memory, static_cast<const char*>(from) + at, piece);
    check(cudaMemcpyAsync(static_cast<char*>(to_device) + at, buffer.memory, piece, cudaMemcpyHostToDevice,
                          handle_of(stream)),
          "copying to the GPU");
    buffer.used.record(stream);
  }
}

void CudaStaging::download(void* to, const void* from_device, size_t bytes, const CudaStream& stream) {
  struct Piece {
    Buffer* buffer = nullptr;
    size_t at = 0, bytes = 0;
  } earlier;
  const auto empty = [&](const Piece& piece) {
    if (!piece.buffer) return;
    piece.buffer->used.synchronize();
    std::memcpy(static_cast<char*>(to) + piece.at, piece.buffer->memory, piece.bytes);
  };
  for (size_t at = 0; at < bytes; at += buffer_bytes_) {
    const Piece piece{&next(), at, std::min(buffer_bytes_, bytes - at)};
    check(cudaMemcpyAsync(piece.buffer->memory, static_cast<const char*>(from_device) + at, piece.bytes,
                          cudaMemcpyDeviceToHost, handle_of(stream)),
          "copying from the GPU");
    piece.buffer->used.record(stream);
    empty(earlier);  // while this piece is on its way
    earlier = piece;
  }
  empty(earlier);
}

}  // namespace kiln
