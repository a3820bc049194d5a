// One kernel a fault, for the self-test of static_gates.py, which declares what each of them may not be.
#include <cstdint>

#define KERNEL extern "C" __global__ void __launch_bounds__(256)

__device__ int here() { return blockIdx.x * blockDim.x + threadIdx.x; }

KERNEL good(float4* out, const float4* in) { out[here()] = in[here()]; }

// 64 values that all live at once.
template <int kValues>
__device__ void keep_many(float* out, const float* in) {
  float v[kValues];
#pragma unroll
  for (int i = 0; i < kValues; i++) v[i] = in[here() * kValues + i];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kValues; i++) out[here() * kValues + i] = v[(i * 7 + 3) % kValues] * v[kValues - 1 - i];
}
KERNEL many_registers(float* out, const float* in) { keep_many<64>(out, in); }
extern "C" __global__ void __launch_bounds__(1024, 2) spills(float* out, const float* in) { keep_many<64>(out, in); }

// An array that is indexed by what is not known before.
__device__ void look_up(float* out, const int* at) {
  float v[256] = {};
  for (int i = 0; i < at[256]; i++) v[at[i] & 255] += static_cast<float>(i);
  out[here()] = v[at[257] & 255];
}
KERNEL stack(float* out, const int* at) { look_up(out, at); }
KERNEL local_array(float* out, const int* at) { look_up(out, at); }

KERNEL fp64(float* out, const float* in) { out[here()] = static_cast<float>(in[here()] * 1.1); }
KERNEL fp64_on_purpose(float* out, const float* in) { out[here()] = static_cast<float>(in[here()] * 1.1); }

__device__ __noinline__ float called(float x) { return x * x + 1; }
KERNEL calls(float* out, const float* in) { out[here()] = called(in[here()]); }

KERNEL narrow(float* out, const float* in) { out[here()] = in[here()]; }
KERNEL narrow_store(float* out, const float4* in) {
  const float4 x = in[here()];
  out[here()] = x.x + x.y + x.z + x.w;
}

// A wide access, and others beside it that are not.
KERNEL one_wide_of_two(float* out, const float4* a, const float* b) {
  const float4 x = a[here()];
  out[here()] = x.x * b[4 * here()] + x.y * b[4 * here() + 1] + x.z * b[4 * here() + 2] + x.w * b[4 * here() + 3];
}
__device__ void take_apart(float4* wide, volatile float* narrow, const float4* in) {
  const float4 x = in[here()];
  wide[here()] = x;
  narrow[4 * here()] = x.x, narrow[4 * here() + 1] = x.y, narrow[4 * here() + 2] = x.z, narrow[4 * here() + 3] = x.w;
}
KERNEL taken_apart(float4* wide, float* narrow, const float4* in) { take_apart(wide, narrow, in); }
KERNEL narrow_on_purpose(float4* wide, float* narrow, const float4* in) { take_apart(wide, narrow, in); }
KERNEL narrow_elsewhere(float4* wide, float* narrow, const float4* in) { take_apart(wide, narrow, in); }
KERNEL nothing_wide(float* out) { out[here()] = 1; }

KERNEL without_mma(float* out, const float* in) { out[here()] = in[here()] * in[here() + 1]; }
KERNEL with_mma(float* out, const uint32_t* in) {
  float c[4] = {};
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(in[0]), "r"(in[1]), "r"(in[2]));
  out[here()] = c[0] + c[1] + c[2] + c[3];
}

extern "C" __global__ void unbounded(float* out) { out[here()] = 1; }

KERNEL wide_block(float* out) {
  extern __shared__ float values[];
  values[threadIdx.x] = 1;
  __syncthreads();
  out[here()] = values[255 - threadIdx.x];
}

// Of two instances one is declared to be small enough, the other is not.
template <int N>
__global__ void __launch_bounds__(256) instance(float* out, const float* in) { keep_many<16>(out + N, in); }
template __global__ void instance<1>(float*, const float*);
template __global__ void instance<2>(float*, const float*);

KERNEL misspelt(float* out) { out[here()] = 1; }
KERNEL undeclared(float* out) { out[here()] = 1; }
