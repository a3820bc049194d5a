// Streams are lazy: what a program does not wait for has not happened, and what it does not order is found.
#include <gtest/gtest.h>

#include <vector>

#include "tests/cuda_emulator/findings.h"
#include "tests/cuda_emulator/tests/device_array.h"
#include "tests/cuda_emulator/tests/faults.h"

namespace kiln::emulator::testing {

namespace {

constexpr int kCount = 512;
constexpr size_t kBytes = kCount * sizeof(float);

struct Pinned {
  Pinned() { cudaMallocHost(reinterpret_cast<void**>(&data), kBytes); }
  ~Pinned() { cudaFreeHost(data); }
  float* data = nullptr;
};

struct StreamPair {
  StreamPair() {
    cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking);
  }
  ~StreamPair() {
    cudaStreamDestroy(a);
    cudaStreamDestroy(b);
  }
  cudaStream_t a = nullptr, b = nullptr;
};

TEST(Streams, ACopyToPinnedMemoryIsLate) {
  DeviceArray<float> memory(kCount);
  Pinned host;
  StreamPair streams;
  host.data[0] = -1;
  launch_fill(memory.data(), 7, kCount, streams.a);
  cudaMemcpyAsync(host.data, memory.data(), kBytes, cudaMemcpyDeviceToHost, streams.a);
  EXPECT_EQ(host.data[0], -1);  // nobody has waited
  EXPECT_EQ(cudaStreamSynchronize(streams.a), cudaSuccess);
  EXPECT_EQ(host.data[0], 7);
}

TEST(Streams, AReusedPinnedBufferIsCopiedAsItIsThen) {
  DeviceArray<float> memory(kCount);
  Pinned host;
  StreamPair streams;
  for (int i = 0; i < kCount; ++i) host.data[i] = 1;
  cudaMemcpyAsync(memory.data(), host.data, kBytes, cudaMemcpyHostToDevice, streams.a);
  for (int i = 0; i < kCount; ++i) host.data[i] = 2;  // the fault
  cudaStreamSynchronize(streams.a);
  EXPECT_EQ(memory.read()[0], 2);
}

TEST(Streams, PageableMemoryIsStaged) {
  DeviceArray<float> memory(kCount);
  std::vector<float> host(kCount, 1.0f);
  StreamPair streams;
  cudaMemcpyAsync(memory.data(), host.data(), kBytes, cudaMemcpyHostToDevice, streams.a);
  host.assign(kCount, 2.0f);
  cudaStreamSynchronize(streams.a);
  EXPECT_EQ(memory.read()[0], 1);
}

TEST(Streams, PinnedMemoryIsFreedWhenTheHostHasWaited) {
  DeviceArray<float> memory(kCount);
  Pinned other;
  float* host = nullptr;
  ASSERT_EQ(cudaMallocHost(reinterpret_cast<void**>(&host), kBytes), cudaSuccess);
  for (int i = 0; i < kCount; ++i) host[i] = other.data[i] = 3;
  FindingCapture capture;
  const auto refuses = [&] {
    EXPECT_EQ(cudaFreeHost(host), cudaErrorInvalidValue);
    EXPECT_NE(
        capture.all().find(
            "cudaFreeHost of memory that a copy host to device uses, which the host has not waited for"),
        std::string::npos)
        << capture.all();
    capture.clear();
  };
  StreamPair streams;
  cudaMemcpyAsync(memory.data(), host + 7, 4, cudaMemcpyHostToDevice, streams.a);
  cudaStreamSynchronize(streams.b);  // another one
  refuses();
  cudaStreamSynchronize(streams.a);
  cudaStream_t gone;
  cudaStreamCreate(&gone);
  cudaMemcpyAsync(memory.data(), host, kBytes, cudaMemcpyHostToDevice, gone);
  cudaStreamDestroy(gone);  // waits for nothing
  refuses();
  cudaDeviceSynchronize();
  cudaMemcpyAsync(memory.data(), other.data, kBytes, cudaMemcpyHostToDevice, streams.a);
  EXPECT_EQ(cudaFreeHost(host), cudaSuccess);  // nobody uses this one
  cudaStreamSynchronize(streams.a);
  std::vector<float> mine(kCount);
  cudaHostRegister(mine.data(), kBytes, 0);
  cudaMemcpyAsync(mine.data(), memory.data(), kBytes, cudaMemcpyDeviceToHost, streams.a);
  EXPECT_EQ(capture.all(), "");
  EXPECT_EQ(cudaHostUnregister(mine.data()), cudaErrorInvalidValue);
  EXPECT_NE(capture.all().find("cudaHostUnregister of memory that a copy device to host uses"),
            std::string::npos)
      << capture.all();
  cudaStreamSynchronize(streams.a);
  EXPECT_EQ(cudaHostUnregister(mine.data()), cudaSuccess);
  EXPECT_EQ(mine[0], 3);
  cudaGetLastError();
}

TEST(Streams, AMissingEventIsFound) {
  DeviceArray<float> from(kCount), to(kCount);
  StreamPair streams;
  FindingCapture capture;
  launch_fill(from.data(), 3, kCount, streams.a);
  cudaMemcpyAsync(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice, streams.b);
  cudaStreamSynchronize(streams.a);
  EXPECT_NE(cudaStreamSynchronize(streams.b), cudaSuccess);
  EXPECT_NE(capture.all().find("is ordered by no event or synchronisation after kernel"), std::string::npos)
      << capture.all();
  cudaGetLastError();
}

TEST(Streams, KernelsOfUnorderedStreamsAreFound) {
  DeviceArray<float> memory(kCount);
  StreamPair streams;
  FindingCapture capture;
  launch_fill(memory.data(), 3, kCount, streams.a);
  launch_fill(memory.data(), 4, kCount, streams.b);
  EXPECT_NE(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_NE(capture.all().find("which no event or synchronisation orders before this kernel"),
            std::string::npos)
      << capture.all();
  cudaGetLastError();
}

TEST(Streams, AnEventOrders) {
  DeviceArray<float> from(kCount), to(kCount);
  StreamPair streams;
  cudaEvent_t event;
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  launch_fill(from.data(), 3, kCount, streams.a);
  cudaEventRecord(event, streams.a);
  cudaStreamWaitEvent(streams.b, event, 0);
  cudaMemcpyAsync(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice, streams.b);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(streams.b), cudaSuccess);
  EXPECT_EQ(to.read()[kCount - 1], 3);
  cudaEventDestroy(event);
}

TEST(Streams, TheHostOrders) {
  DeviceArray<float> memory(kCount);
  StreamPair streams;
  launch_fill(memory.data(), 3, kCount, streams.a);
  cudaStreamSynchronize(streams.a);
  launch_fill(memory.data(), 4, kCount, streams.b);
  EXPECT_EQ(cudaStreamSynchronize(streams.b), cudaSuccess);
  EXPECT_EQ(memory.read()[0], 4);
}

TEST(Streams, TheDefaultStreamOrdersBlockingOnes) {
  DeviceArray<float> memory(kCount);
  cudaStream_t blocking;
  cudaStreamCreate(&blocking);
  launch_fill(memory.data(), 3, kCount, blocking);
  launch_fill(memory.data(), 4, kCount, nullptr);
  launch_fill(memory.data(), 5, kCount, blocking);
  EXPECT_EQ(cudaStreamSynchronize(blocking), cudaSuccess);
  EXPECT_EQ(memory.read()[0], 5);
  cudaStreamDestroy(blocking);
}

TEST(Streams, CopiesCarryWhatWasNeverWritten) {
  DeviceArray<float> from(kCount), to(kCount);
  launch_fill(from.data(), 1, 10, nullptr);
  cudaMemcpy(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice);
  DeviceArray<float> memory(std::vector<float>(4096, 1.0f));
  FindingCapture capture;
  launch_fault("uninitialised_global", memory.data(), to.data(), nullptr);
  cudaDeviceSynchronize();
  EXPECT_NE(capture.all().find("reads uninitialised global memory"), std::string::npos) << capture.all();
  cudaGetLastError();
}

TEST(Streams, TimeGoesOn) {
  cudaEvent_t first, second;
  cudaEventCreate(&first);
  cudaEventCreate(&second);
  cudaEventRecord(first, nullptr);
  cudaEventRecord(second, nullptr);
  cudaEventSynchronize(second);
  float milliseconds = -1;
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, first, second), cudaSuccess);
  EXPECT_GE(milliseconds, 0);
  cudaEventDestroy(first);
  cudaEventDestroy(second);
}

TEST(Device, SaysWhatItIs) {
  int count = 0;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 1);
  cudaDeviceProp properties;
  EXPECT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
  EXPECT_EQ(properties.major, 8);
  EXPECT_EQ(properties.sharedMemPerBlock, 48u * 1024);
  EXPECT_STREQ(cudaGetErrorName(cudaErrorInvalidValue), "cudaErrorInvalidValue");
  EXPECT_STREQ(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory");
}

TEST(Device, FullMemoryIsAnError) {
  void* pointer = nullptr;
  EXPECT_EQ(cudaMalloc(&pointer, size_t{1} << 40), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST(Device, CanBeMissing) {
  int count = 17;
  setenv("KILN_EMULATOR_DEVICES", "-1", 1);
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver);
  EXPECT_EQ(count, 17);
  void* pointer = nullptr;
  cudaStream_t stream = nullptr;
  EXPECT_EQ(cudaMalloc(&pointer, 4), cudaErrorInsufficientDriver);
  EXPECT_EQ(cudaStreamCreate(&stream), cudaErrorInsufficientDriver);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorInsufficientDriver);
  setenv("KILN_EMULATOR_DEVICES", "0", 1);
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
  EXPECT_EQ(count, 0);
  EXPECT_EQ(cudaMallocHost(&pointer, 4), cudaErrorNoDevice);
  EXPECT_EQ(cudaMemset(pointer, 0, 4), cudaErrorNoDevice);
  unsetenv("KILN_EMULATOR_DEVICES");
  cudaGetLastError();
}

}  // namespace

}  // namespace kiln::emulator::testing
