// What every CUDA kernel is made of: vectors of 16 bytes, loaded and stored whole and computed with in fp32, and sums
// over a warp. Nothing here depends on the kernel's block.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace kiln::kernels::cuda {

inline constexpr int kLanes = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

// Elements of 16 bytes.
template <class T>
inline constexpr int kWhole = 16 / static_cast<int>(sizeof(T));

template <int N>
struct Floats {
  float v[N];
};

// N elements at p, which is 16-byte aligned unless N is 1.
template <int N>
__device__ __forceinline__ Floats<N> load(const float* p) {
  Floats<N> x;
  if constexpr (N == 1) {
    x.v[0] = *p;
  } else {
    static_assert(N % 4 == 0);
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      const float4 w = reinterpret_cast<const float4*>(p)[i / 4];
      x.v[i] = w.x, x.v[i + 1] = w.y, x.v[i + 2] = w.z, x.v[i + 3] = w.w;
    }
  }
  return x;
}

// bf16 is the upper half of an fp32.
template <int N>
__device__ __forceinline__ Floats<N> load(const __nv_bfloat16* p) {
  Floats<N> x;
  if constexpr (N == 1) {
    x.v[0] = __bfloat162float(*p);
  } else {
    static_assert(N == 8);
    const uint4 w = *reinterpret_cast<const uint4*>(p);
    const unsigned pairs[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      x.v[2 * i] = __uint_as_float(pairs[i] << 16);
      x.v[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000u);
    }
  }
  return x;
}

template <int N>
__device__ __forceinline__ void store(float* p, const Floats<N>& x) {
  if constexpr (N == 1) {
    *p = x.v[0];
  } else {
    static_assert(N % 4 == 0);
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      reinterpret_cast<float4*>(p)[i / 4] = make_float4(x.v[i], x.v[i + 1], x.v[i + 2], x.v[i + 3]);
    }
  }
}

// Rounded to nearest, ties to even.
template <int N>
__device__ __forceinline__ void store(__nv_bfloat16* p, const Floats<N>& x) {
  if constexpr (N == 1) {
    *p = __float2bfloat16_rn(x.v[0]);
  } else {
    static_assert(N == 8);
    unsigned pairs[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(x.v[2 * i], x.v[2 * i + 1]);
      pairs[i] = *reinterpret_cast<const unsigned*>(&pair);
    }
    *reinterpret_cast<uint4*>(p) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
  }
}

// The sum over all lanes of a warp, the same in each, always added up in the same order.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(kAllLanes, x, distance);
  return x;
}

}  // namespace kiln::kernels::cuda
