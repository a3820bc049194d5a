// What the tests of CUDA kernels share. They run in the emulator, and on a GPU where there is one: nothing here names the
// emulator.
//
//   Gpu gpu;
//   const std::vector<float> in = gpu_values(rows * C, "in", dtype);
//   Tensor x(gpu, dtype, in), out(gpu, dtype, rows * C);
//   gpu.run(kernels::some_kernel, kernels::SomeKernel{out.data(), x.data(), ..., dtype});
//   expect_close("out", out.read(gpu), expected, dtype, [&](int64_t i) { return bound of element i in fp32; });
//
// Every Tensor is an allocation of its own, of exactly its size, so that the emulator sees every overrun; one that is
// made by its size alone holds nothing: to read it before it is written is a finding.
#pragma once

#include <bit>
#include <memory>

#include "src/device/cuda.h"
#include "src/device/cuda_staging.h"
#include "tests/kernels/support.h"

namespace kiln::tests {

inline constexpr DType kBothTypes[] = {DType::f32, DType::bf16};

// Of one rounding to `dtype`: bf16 has 8 significant bits.
inline double unit_of(DType dtype) {
  return dtype == DType::f32 ? kUnit : 0x1p-8;
}

inline uint16_t to_bf16(float x) {  // to nearest, ties to even
  const auto bits = std::bit_cast<uint32_t>(x);
  if (std::isnan(x)) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline float from_bf16(uint16_t x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x) << 16);
}

inline std::vector<float> rounded(std::vector<float> values, DType dtype) {
  if (dtype == DType::bf16) {
    for (float& x : values) x = from_bf16(to_bf16(x));
  }
  return values;
}

// n draws of mean + deviation * N(0, 1), as `dtype` holds them.
inline std::vector<float> gpu_values(int64_t n, const char* name, DType dtype, double deviation = 1,
                                     double mean = 0) {
  const Guarded<float> drawn = normal(n, name, deviation, mean);
  return rounded({drawn.begin(), drawn.end()}, dtype);
}

inline std::vector<double> to_double(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

// The device, a stream, and the context of kernels.
class Gpu {
 public:
  Gpu() : staging_(size_t{1} << 16) {
    context_.device = cuda_device();
    context_.stream = stream_.handle();
  }

  // Asks a dry run for the workspace, gives exactly that, and runs.
  template <class Params>
  void run(void (*kernel)(Context&, const Params&), const Params& p) {
    Context dry;
    DryRun record;
    dry.device = context_.device;
    dry.dry_run = &record;
    kernel(dry, p);
    give_workspace(record.workspace_bytes);
    kernel(context_, p);
    stream_.synchronize();
  }

  void upload(void* to, const void* from, size_t bytes) { staging_.upload(to, from, bytes, stream_); }
  void download(void* to, const void* from, size_t bytes) { staging_.download(to, from, bytes, stream_); }

  Context& context() { return context_; }
  CudaStream& stream() { return stream_; }

 private:
  // Fresh each time, so that reading what was never written is seen; large ones (of the libraries) are kept. It is aligned
  // as an arena aligns it, and no better.
  void give_workspace(size_t bytes) {
    constexpr size_t kLarge = size_t{1} << 20;
    if (bytes == context_.workspace.bytes() && bytes >= kLarge) return;
    context_.workspace = Workspace();
    workspace_.reset();
    if (bytes == 0) return;
    workspace_.reset(cuda_allocate(Plan::kAlignment + bytes));
    context_.workspace = Workspace(static_cast<char*>(workspace_.get()) + Plan::kAlignment, bytes);
  }

  CudaStream stream_;
  CudaStaging staging_;
  std::unique_ptr<void, void (*)(void*) noexcept> workspace_{nullptr, cuda_release};
  Context context_;
};

// Elements of any type on the device.
template <class T>
class DeviceArray {
 public:
  DeviceArray(Gpu& gpu, int64_t n) : gpu_(&gpu), n_(n), data_(n ? cuda_allocate(bytes()) : nullptr) {}
  DeviceArray(Gpu& gpu, const std::vector<T>& values)
      : DeviceArray(gpu, static_cast<int64_t>(values.size())) {
    gpu.upload(data_, values.data(), bytes());
  }
  DeviceArray(DeviceArray&& other) noexcept : gpu_(other.gpu_), n_(other.n_), data_(other.data_) {
    other.data_ = nullptr;
  }
  DeviceArray& operator=(DeviceArray&&) = delete;
  ~DeviceArray() { cuda_release(data_); }

  T* data() const { return static_cast<T*>(data_); }
  std::vector<T> read() const {
    std::vector<T> values(static_cast<size_t>(n_));
    gpu_->download(values.data(), data_, bytes());
    return values;
  }

 private:
  size_t bytes() const { return static_cast<size_t>(n_) * sizeof(T); }

  Gpu* gpu_;
  int64_t n_;
  void* data_;
};

// Numbers in fp32 or bf16 on the device; `offset` elements lie before them, so that they are aligned no better.
class Tensor {
 public:
  Tensor(Gpu& gpu, DType dtype, int64_t n, int64_t offset = 0)
      : dtype_(dtype),
        offset_(offset),
        n_(n),
        bytes_(gpu, (offset + n) * static_cast<int64_t>(size_of(dtype))) {}
  Tensor(Gpu& gpu, DType dtype, const std::vector<float>& values, int64_t offset = 0)
      : Tensor(gpu, dtype, static_cast<int64_t>(values.size()), offset) {
    if (dtype == DType::f32) {
      gpu.upload(data(), values.data(), values.size() * 4);
      return;
    }
    std::vector<uint16_t> halves;
    for (float x : values) halves.push_back(to_bf16(x));
    gpu.upload(data(), halves.data(), halves.size() * 2);
  }

  void* data() const { return bytes_.data() + offset_ * static_cast<int64_t>(size_of(dtype_)); }
  std::vector<float> read(Gpu& gpu) const {
    std::vector<float> values(static_cast<size_t>(n_));
    if (dtype_ == DType::f32) {
      gpu.download(values.data(), data(), values.size() * 4);
      return values;
    }
    std::vector<uint16_t> halves(values.size());
    gpu.download(halves.data(), data(), halves.size() * 2);
    for (size_t i = 0; i < halves.size(); i++) values[i] = from_bf16(halves[i]);
    return values;
  }

 private:
  DType dtype_;
  int64_t offset_, n_;
  DeviceArray<unsigned char> bytes_;
};

// As for the CPU; where `dtype` is bf16 the fp32 result, which errs by bound(i), is rounded once more.
inline void expect_close(const std::string& what, const std::vector<float>& actual,
                         const std::vector<double>& expected, DType dtype,
                         const std::function<double(int64_t)>& bound) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  expect_close(what, actual.data(), expected, [&](int64_t i) {
    const double error = bound(i);
    if (dtype == DType::f32) return error;
    // Below the smallest normal number steps are 2^-133 wide.
    return error + unit_of(dtype) * (std::fabs(expected[static_cast<size_t>(i)]) + error) + 0x1p-134;
  });
}

}  // namespace kiln::tests
