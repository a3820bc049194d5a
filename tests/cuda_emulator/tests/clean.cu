#include <cuda_bf16.h>

#include "tests/cuda_emulator/tests/clean.h"

namespace kiln::emulator::testing {

namespace {

__host__ __device__ int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}

__device__ float warp_sum(float v) {
  for (int offset = 16; offset > 0; offset /= 2) v += __shfl_down_sync(0xffffffffu, v, offset);
  return v;
}

__global__ void vectors(float* out, const float* in, int n) {
  const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i + 4 <= n) {
    *reinterpret_cast<float4*>(out + i) = *reinterpret_cast<const float4*>(in + i);
  } else {
    for (int k = i; k < n; ++k) out[k] = in[k];
  }
}

__global__ void saxpy(float* y, const float* x, float a, int n) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    y[i] = a * x[i] + y[i];
}

__global__ void transpose(float* out, const float* in, int rows, int columns) {
  __shared__ float tile[32][33];
  for (int j = threadIdx.y; j < 32; j += blockDim.y) {
    const int r = 32 * blockIdx.y + j, c = 32 * blockIdx.x + threadIdx.x;
    if (r < rows && c < columns) tile[j][threadIdx.x] = in[r * columns + c];
  }
  __syncthreads();
  for (int j = threadIdx.y; j < 32; j += blockDim.y) {
    const int r = 32 * blockIdx.x + j, c = 32 * blockIdx.y + threadIdx.x;
    if (r < columns && c < rows) out[r * rows + c] = tile[threadIdx.x][j];
  }
}

__global__ void tree(float* out, const float* in, int n) {
  extern __shared__ float sums[];
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  sums[threadIdx.x] = i < n ? in[i] : 0;
  __syncthreads();
  for (int half = blockDim.x / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0) out[blockIdx.x] = sums[0];
}

__device__ float block_sum(float v) {
  __shared__ float part[32];
  v = warp_sum(v);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  __syncthreads();
  v = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0;
  return threadIdx.x < 32 ? warp_sum(v) : 0;
}

__global__ void shuffles(float* out, const float* in, int n) {
  float v = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) v += in[i];
  v = block_sum(v);
  if (threadIdx.x == 0) *out = v;
}

__global__ void atomics(float* out, const float* in, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const float v = block_sum(i < n ? in[i] : 0);
  if (threadIdx.x == 0) atomicAdd(out, v);
}

__global__ void count_bytes(unsigned* bins, const uint8_t* in, int n) {
  __shared__ unsigned local[256];
  local[threadIdx.x] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    atomicAdd(&local[in[i]], 1u);
  __syncthreads();
  atomicAdd(&bins[threadIdx.x], local[threadIdx.x]);
}

__global__ void scan(int* out, const int* in, int n) {
  __shared__ int buffers[2][256];
  int from = 0;
  const int i = threadIdx.x;
  buffers[0][i] = i < n ? in[i] : 0;
  __syncthreads();
  for (int distance = 1; distance < 256; distance *= 2) {
    buffers[1 - from][i] = buffers[from][i] + (i >= distance ? buffers[from][i - distance] : 0);
    from = 1 - from;
    __syncthreads();
  }
  if (i < n) out[i] = buffers[from][i];
}

__global__ void naive(float* c, const float* a, const float* b, int n) {
  const int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y * blockDim.y + threadIdx.y;
  if (row >= n || column >= n) return;
  float sum = 0;
  for (int k = 0; k < n; ++k) sum += a[row * n + k] * b[k * n + column];
  c[row * n + column] = sum;
}

__global__ void tiles(float* c, const float* a, const float* b, int n) {
  extern __shared__ float both[];
  float *ta = both, *tb = both + 256;
  const int x = threadIdx.x, y = threadIdx.y, row = 16 * blockIdx.y + y, column = 16 * blockIdx.x + x;
  float sum = 0;
  for (int k0 = 0; k0 < n; k0 += 16) {
    ta[16 * y + x] = row < n && k0 + x < n ? a[row * n + k0 + x] : 0;
    tb[16 * y + x] = k0 + y < n && column < n ? b[(k0 + y) * n + column] : 0;
    __syncthreads();
    for (int k = 0; k < 16; ++k) sum += ta[16 * y + k] * tb[16 * k + x];
    __syncthreads();
  }
  if (row < n && column < n) c[row * n + column] = sum;
}

__global__ void __launch_bounds__(64) registers(float* c, const float* a, const float* b, int n) {
  __shared__ float ta[8][32], tb[8][32];
  const int x = threadIdx.x % 8, y = threadIdx.x / 8, row0 = 32 * blockIdx.y, column0 = 32 * blockIdx.x;
  float sum[4][4] = {};
  for (int k0 = 0; k0 < n; k0 += 8) {
    for (int i = threadIdx.x; i < 256; i += 64) {
      const int k = i / 32, j = i % 32;
      ta[k][j] = row0 + j < n && k0 + k < n ? a[(row0 + j) * n + k0 + k] : 0;
      tb[k][j] = column0 + j < n && k0 + k < n ? b[(k0 + k) * n + column0 + j] : 0;
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < 8; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sum[i][j] += ta[k][4 * y + i] * tb[k][4 * x + j];
      }
    }
    __syncthreads();
  }
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      const int row = row0 + 4 * y + i, column = column0 + 4 * x + j;
      if (row < n && column < n) c[row * n + column] = sum[i][j];
    }
  }
}

__global__ void softmax(float* out, const float* in, int columns) {
  const float* x = in + blockIdx.x * columns;
  float largest = -INFINITY, sum = 0;
  for (int c = threadIdx.x; c < columns; c += 32) {
    const float before = largest;
    largest = fmaxf(largest, x[c]);
    sum = sum * expf(before - largest) + expf(x[c] - largest);
  }
  for (int offset = 16; offset > 0; offset /= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, largest, offset),
                total = __shfl_xor_sync(0xffffffffu, sum, offset);
    const float both = fmaxf(largest, other);
    sum = (largest == both ? sum : sum * expf(largest - both)) +
          (other == both ? total : total * expf(other - both));
    largest = both;
  }
  for (int c = threadIdx.x; c < columns; c += 32) out[blockIdx.x * columns + c] = expf(x[c] - largest) / sum;
}

__global__ void three_points(float* out, const float* in, int n) {
  __shared__ float near[66];
  const int i = 64 * blockIdx.x + threadIdx.x;
  near[threadIdx.x + 1] = i < n ? in[i] : 0;
  if (threadIdx.x == 0) near[0] = i > 0 ? in[i - 1] : 0;
  if (threadIdx.x == 63) near[65] = i + 1 < n ? in[i + 1] : 0;
  __syncthreads();
  if (i < n) out[i] = near[threadIdx.x] + 2 * near[threadIdx.x + 1] + near[threadIdx.x + 2];
}

// Warp 0 fills one of two buffers while warps 1 and 2 use the other; named barriers tell full from empty.
__global__ void specialised(float* out, const float* in, int chunks) {
  __shared__ float buffers[2][64];
  const int thread = threadIdx.x;
  if (thread < 32) {
    for (int chunk = 0; chunk < chunks; ++chunk) {
      const int b = chunk % 2;
      asm volatile("bar.sync %0, 96;" ::"r"(3 + b) : "memory");  // empty
      buffers[b][thread] = in[64 * chunk + thread];
      buffers[b][thread + 32] = in[64 * chunk + thread + 32];
      asm volatile("bar.arrive %0, 96;" ::"r"(1 + b) : "memory");  // full
    }
  } else {
    asm volatile("bar.arrive 3, 96;" ::: "memory");
    asm volatile("bar.arrive 4, 96;" ::: "memory");
    for (int chunk = 0; chunk < chunks; ++chunk) {
      const int b = chunk % 2;
      asm volatile("bar.sync %0, 96;" ::"r"(1 + b) : "memory");
      out[64 * chunk + thread - 32] = 2 * buffers[b][95 - thread];
      if (chunk + 2 < chunks) asm volatile("bar.arrive %0, 96;" ::"r"(3 + b) : "memory");
    }
  }
}

__global__ void write_bytes(uint8_t* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n && i % 2 == 0) out[i] = static_cast<uint8_t>(i);
  if (i < n && i % 2 == 1) out[i] = static_cast<uint8_t>(3 * i);
}

__global__ void write_halves(uint16_t* out, int n) {
  const int i = (blockIdx.x * blockDim.x + threadIdx.x) ^ 1;
  if (i < n) out[i] = static_cast<uint16_t>(7 * i);
}

__global__ void keep_positive(int* out, int* count, const int* in, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x % 32;
  const bool keep = i < n && in[i] > 0;
  const unsigned kept = __ballot_sync(0xffffffffu, keep);
  int base = 0;
  if (lane == 0) base = atomicAdd(count, __popc(kept));
  base = __shfl_sync(0xffffffffu, base, 0);
  if (keep) out[base + __popc(kept & ((1u << lane) - 1))] = in[i];
}

// Tiles of 8x32 pass through three stages of shared memory and come out reversed.
__global__ void pipeline(float* out, const float* in, int count) {
  __shared__ __align__(16) float stages[3][256];
  const int i = threadIdx.x;
  const auto fetch = [&](int tile) {
    if (tile < count) {
      const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(&stages[tile % 3][4 * i]));
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(in + 256 * tile + 4 * i)
                   : "memory");
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  fetch(0);
  fetch(1);
  for (int tile = 0; tile < count; ++tile) {
    asm volatile("cp.async.wait_group 1;" ::: "memory");
    __syncthreads();
    fetch(tile + 2);
    for (int k = i; k < 256; k += 64) out[256 * tile + k] = stages[tile % 3][255 - k];
  }
}

struct Double {
  __device__ float operator()(float x) const { return 2 * x; }
};
struct Root {
  __device__ float operator()(float x) const { return sqrtf(fabsf(x)); }
};
template <class F>
__global__ void apply(float* out, const float* in, int n, F f) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = f(in[i]);
}
__global__ void choose(float* out, const float* in, int n, int which) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  switch ((which + i) % 6) {
    case 0:
      out[i] = in[i] + 1;
      break;
    case 1:
      out[i] = in[i] * in[i];
      break;
    case 2:
      out[i] = sinf(in[i]);
      break;
    case 3:
      out[i] = -in[i];
      break;
    case 4:
      out[i] = tanhf(in[i]);
      break;
    default:
      out[i] = logf(1 + fabsf(in[i]));
  }
}

__global__ void halves(float* out, const float* in) {
  __shared__ float t[32];
  const int lane = threadIdx.x, half = lane & 16;
  const unsigned mask = half ? 0xffff0000u : 0x0000ffffu;
  for (int round = 0; round < 3; ++round) {
    t[lane] = in[lane] + round;
    __syncwarp(mask);
    const float other = t[half + 15 - lane % 16];
    __syncwarp(mask);
    out[32 * round + lane] = other;
  }
}

__global__ void gelu(__nv_bfloat162* out, const __nv_bfloat162* in, int pairs) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= pairs) return;
  const float2 x = __bfloat1622float2(in[i]);
  const auto f = [](float v) { return 0.5f * v * (1 + erff(v * 0.70710678f)); };
  out[i] = __floats2bfloat162_rn(f(x.x), f(x.y));
}

struct Settings {
  float* out;
  int n;
  float table[5];
};
__global__ void by_value(Settings s) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < s.n) s.out[i] = s.table[i % 5] * static_cast<float>(i);
}

__global__ void bitonic(int* values, int n) {
  extern __shared__ int keys[];
  const int i = threadIdx.x;
  keys[i] = values[i];
  __syncthreads();
  for (int size = 2; size <= n; size *= 2) {
    for (int stride = size / 2; stride > 0; stride /= 2) {
      const int other = i ^ stride;
      if (other > i) {
        const bool ascending = (i & size) == 0;
        const int a = keys[i], b = keys[other];
        if ((a > b) == ascending) {
          keys[i] = b;
          keys[other] = a;
        }
      }
      __syncthreads();
    }
  }
  values[i] = keys[i];
}

__global__ void rows_from_the_end(float* out, const float* in, int rows, int columns) {
  __shared__ float row[128];
  if (blockIdx.x >= rows) return;  // the whole block
  for (int c = threadIdx.x; c < columns; c += blockDim.x) row[c] = in[blockIdx.x * columns + c];
  __syncthreads();
  for (int c = threadIdx.x; c < columns; c += blockDim.x)
    out[(rows - 1 - blockIdx.x) * columns + c] = row[columns - 1 - c];
}

__global__ void philox(uint32_t* out, int n, uint32_t seed) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  uint32_t counter[4] = {static_cast<uint32_t>(i), 0, 0, 0}, key[2] = {seed, 0};
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = __umulhi(0xd2511f53u, counter[0]), low0 = 0xd2511f53u * counter[0];
    const uint32_t high1 = __umulhi(0xcd9e8d57u, counter[2]), low1 = 0xcd9e8d57u * counter[2];
    counter[0] = high1 ^ counter[1] ^ key[0];
    counter[1] = low1;
    counter[2] = high0 ^ counter[3] ^ key[1];
    counter[3] = low0;
    key[0] += 0x9e3779b9u;
    key[1] += 0xbb67ae85u;
  }
  if (i < n) reinterpret_cast<uint4*>(out)[i] = make_uint4(counter[0], counter[1], counter[2], counter[3]);
}

}  // namespace

void copy_vectors(float* out, const float* in, int n) {
  vectors<<<ceil_div(n, 512), 128>>>(out, in, n);
}
void saxpy_strided(float* y, const float* x, float a, int n) {
  saxpy<<<3, 96>>>(y, x, a, n);
}
void transpose_tiles(float* out, const float* in, int rows, int columns) {
  transpose<<<dim3(ceil_div(columns, 32), ceil_div(rows, 32)), dim3(32, 8)>>>(out, in, rows, columns);
}
void reduce_tree(float* out, const float* in, int n) {
  tree<<<ceil_div(n, 128), 128, 128 * sizeof(float)>>>(out, in, n);
}
void reduce_shuffles(float* out, const float* in, int n) {
  shuffles<<<1, 256>>>(out, in, n);
}
void reduce_atomics(float* out, const float* in, int n) {
  atomics<<<ceil_div(n, 128), 128>>>(out, in, n);
}
void histogram(unsigned* bins, const uint8_t* in, int n) {
  count_bytes<<<4, 256>>>(bins, in, n);
}
void scan_block(int* out, const int* in, int n) {
  scan<<<1, 256>>>(out, in, n);
}
void multiply_naive(float* c, const float* a, const float* b, int n) {
  naive<<<dim3(ceil_div(n, 16), ceil_div(n, 8)), dim3(16, 8)>>>(c, a, b, n);
}
void multiply_tiles(float* c, const float* a, const float* b, int n) {
  tiles<<<dim3(ceil_div(n, 16), ceil_div(n, 16)), dim3(16, 16), 512 * sizeof(float)>>>(c, a, b, n);
}
void multiply_registers(float* c, const float* a, const float* b, int n) {
  registers<<<dim3(ceil_div(n, 32), ceil_div(n, 32)), 64>>>(c, a, b, n);
}
void softmax_rows(float* out, const float* in, int rows, int columns) {
  softmax<<<rows, 32>>>(out, in, columns);
}
void stencil(float* out, const float* in, int n) {
  three_points<<<ceil_div(n, 64), 64>>>(out, in, n);
}
void producer_consumer(float* out, const float* in, int n) {
  specialised<<<1, 96>>>(out, in, n / 64);
}
void bytes_of_others(uint8_t* out, int n) {
  write_bytes<<<ceil_div(n, 64), 64>>>(out, n);
}
void halves_of_words(uint16_t* out, int n) {
  write_halves<<<ceil_div(n, 64), 64>>>(out, n);
}
void compact(int* out, int* count, const int* in, int n) {
  keep_positive<<<ceil_div(n, 128), 128>>>(out, count, in, n);
}
void reverse_by_pipeline(float* out, const float* in, int count) {
  pipeline<<<1, 64>>>(out, in, count);
}
void apply_functor(float* out, const float* in, int n, int which) {
  if (which == 0) apply<<<ceil_div(n, 64), 64>>>(out, in, n, Double());
  if (which == 1) apply<<<ceil_div(n, 64), 64>>>(out, in, n, Root());
  if (which > 1) choose<<<ceil_div(n, 64), 64>>>(out, in, n, which);
}
void warp_halves(float* out, const float* in) {
  halves<<<1, 32>>>(out, in);
}
void brain_gelu(uint16_t* out, const uint16_t* in, int n) {
  gelu<<<ceil_div(n / 2, 64), 64>>>(reinterpret_cast<__nv_bfloat162*>(out),
                                    reinterpret_cast<const __nv_bfloat162*>(in), n / 2);
}
void struct_by_value(float* out, int n) {
  by_value<<<ceil_div(n, 64), 64>>>({out, n, {1, 2, 3, 5, 7}});
}
void sort_bitonic(int* values, int n) {
  bitonic<<<1, n, n * sizeof(int)>>>(values, n);
}
void last_rows(float* out, const float* in, int rows, int columns) {
  rows_from_the_end<<<rows + 3, 64>>>(out, in, rows, columns);
}
void random_numbers(uint32_t* out, int n, uint32_t seed) {
  philox<<<ceil_div(n, 64), 64>>>(out, n, seed);
}

}  // namespace kiln::emulator::testing
