// How kernels are launched: through launch(), which checks, for a type of element and a width of vectors that
// with_vectors() or with_type() choose.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <initializer_list>

#include "kernels/cuda/vectors.cuh"
#include "src/core/dtype.h"
#include "src/device/cuda_check.h"

namespace kiln::kernels::cuda {

struct Grid {  // blocks: as many as there is work for, whether CUDA takes so many or not
  int64_t x, y = 1;
};

struct Launch {
  const char* name;  // for messages
  Grid grid;
  dim3 block;
  cudaStream_t stream;
  size_t shared_bytes = 0;  // dynamic shared memory
};

template <class... Parameters, class... Arguments>
void launch(const Launch& how, void (*kernel)(Parameters...), const Arguments&... arguments) {
  if (how.grid.x == 0 || how.grid.y == 0) return;  // nothing to do, which CUDA takes for a mistake
  check_grid(how.grid.x, how.grid.y, how.name);
  const dim3 grid(static_cast<unsigned>(how.grid.x), static_cast<unsigned>(how.grid.y));
  constexpr size_t kWithoutAsking = 32 * 1024;  // 48 KiB, less what the kernel has besides, of fixed size
  if (how.shared_bytes > kWithoutAsking) {
    check(
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(how.shared_bytes)),
        how.name);
  }
  kernel<<<grid, how.block, how.shared_bytes, how.stream>>>(arguments...);
  check(cudaGetLastError(), how.name);
}

// Blocks of `size` for `count` things.
inline int64_t blocks_for(int64_t count, int64_t size) {
  return (count + size - 1) / size;
}

// Whether rows of `elements` that begin at these pointers are 16-byte aligned, each of them. Null pointers are.
inline bool aligned_rows(DType dtype, int64_t elements, std::initializer_list<const void*> pointers) {
  if (elements * static_cast<int64_t>(size_of(dtype)) % 16 != 0) return false;
  for (const void* p : pointers) {
    if (reinterpret_cast<uintptr_t>(p) % 16 != 0) return false;
  }
  return true;
}

// f.operator()<T, N>() with N elements in a vector: 16 bytes, or one element where `whole` is false.
template <class F>
void with_vectors(DType dtype, bool whole, const F& f) {
  if (dtype == DType::f32) {
    whole ? f.template operator()<float, kWhole<float>>() : f.template operator()<float, 1>();
  } else {
    whole ? f.template operator()<__nv_bfloat16, kWhole<__nv_bfloat16>>()
          : f.template operator()<__nv_bfloat16, 1>();
  }
}

}  // namespace kiln::kernels::cuda
