// oneDNN's matrix product with a right factor in panels: one compiled primitive per shape. fp32 panels are those of
// pack.h; bf16 panels hold pairs of rows, see matrix_product_bf16.cpp.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "src/core/dtype.h"
#include "src/device/device.h"

namespace kiln::kernels::cpu {

// Whether oneDNN has a fast kernel for panels here: AVX-512 on a device that is not told to do without. Where
// it has none, its other kernels allocate hidden buffers, and BLAS takes over.
bool has_packed_matmul(const Device& device);

// Whether it has one for bf16 factors that is faster than fp32: with AMX. (AVX512_BF16 alone is slower.)
bool has_packed_bf16_matmul(const Device& device);

// oneDNN compiles what configures and releases AMX tiles when it first multiplies: this makes it do so now.
void prepare_amx();

// oneDNN parallelises with OpenMP; Kiln runs it inside the tiles of parallel_for, one thread each. The number
// of OpenMP threads belongs to the calling thread, so every thread that creates or runs a Matmul says this
// first.
void use_one_openmp_thread();

// c = a b, or c = a b + bias, or c += a b; all contiguous, b in panels.
struct MatmulShape {
  int64_t M, N, K;
  bool bias, accumulate;
  DType factors = DType::f32;  // of a and b; c is fp32
  auto operator<=>(const MatmulShape&) const = default;
};

// Scratch bytes of one running Matmul. Compiles it on the way: oneDNN keeps what it compiled, so a run whose
// workspace was asked for before its first step compiles nothing in its steps.
size_t matmul_scratch_bytes(const MatmulShape& shape);

class Matmul {
 public:
  Matmul(const MatmulShape& shape, int workers);

  size_t scratch_bytes() const { return scratch_bytes_; }

  // Different workers may run at the same time. bias null unless the shape has one.
  void run(int worker, const void* a, const void* b, const float* bias, float* c, void* scratch);

 private:
  struct Worker {
    dnnl::stream stream;
    dnnl::memory a, b, bias, c, scratch;
  };
  dnnl::matmul primitive_;
  std::vector<Worker> workers_;
  size_t scratch_bytes_;
  bool bias_;
};

}  // namespace kiln::kernels::cpu
