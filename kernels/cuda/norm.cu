// LayerNorm and RMS norm. The two differ by the mean and the bias, which RMS norm lacks: one kernel for both, forward and
// backward. Rows are read as 16-byte vectors where C allows it, element by element elsewhere.
#include "kernels/cuda/norm.h"

#include <type_traits>

#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/launch.cuh"

namespace kiln::kernels::cuda {
namespace {

template <class Params>
constexpr bool kCentred =
    std::is_same_v<Params, LayerNormForward> || std::is_same_v<Params, LayerNormBackward>;

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kLanes;

// One warp a row. Three sweeps: mean, variance around that mean, output; the first brings the row into the L1 cache.
template <class T, int N, class Params>
__global__ void __launch_bounds__(kThreads) norm_forward(Params p) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.y;
  if (row >= p.rows) return;  // the whole warp
  const int C = static_cast<int>(p.C), first = static_cast<int>(threadIdx.x) * N;
  const float columns = static_cast<float>(C);
  const T* in = static_cast<const T*>(p.in) + row * p.C;
  T* out = static_cast<T*>(p.out) + row * p.C;
  const T* weight = static_cast<const T*>(p.weight);

  float mean = 0;
  if constexpr (kCentred<Params>) {
    float sum = 0;
    for (int c = first; c < C; c += kLanes * N) {
      const Floats<N> x = load<N>(in + c);
#pragma unroll
      for (int k = 0; k < N; k++) sum += x.v[k];
    }
    mean = warp_sum(sum) / columns;
  }
  float squares = 0;
  for (int c = first; c < C; c += kLanes * N) {
    const Floats<N> x = load<N>(in + c);
#pragma unroll
    for (int k = 0; k < N; k++) squares += (x.v[k] - mean) * (x.v[k] - mean);
  }
  const float rstd = rsqrtf(warp_sum(squares) / columns + p.eps);

  for (int c = first; c < C; c += kLanes * N) {
    const Floats<N> x = load<N>(in + c), w = load<N>(weight + c);
    Floats<N> y;
#pragma unroll
    for (int k = 0; k < N; k++) y.v[k] = (x.v[k] - mean) * rstd * w.v[k];
    if constexpr (kCentred<Params>) {
      const Floats<N> b = load<N>(static_cast<const T*>(p.bias) + c);
#pragma unroll
      for (int k = 0; k < N; k++) y.v[k] += b.v[k];
    }
    store<N>(out + c, y);
  }
  if (threadIdx.x == 0) {
    p.rstd[row] = rstd;
    if constexpr (kCentred<Params>) p.mean[row] = mean;
  }
}

// Sums of gradients over rows, in shared memory. Each vector of columns belongs to one thread from beginning to end, so
// no barrier is needed. A vector of 8 lies in two planes, in which neighbours are neighbours: no bank conflicts.
template <int N>
struct OwnSums {
  float* base;
  int vectors;  // C / N

  __device__ __forceinline__ void clear(int i) const {
    if constexpr (N == 1) {
      base[i] = 0;
    } else {
#pragma unroll
      for (int plane = 0; plane < N / 4; plane++) at(plane, i) = make_float4(0, 0, 0, 0);
    }
  }
  __device__ __forceinline__ void add(int i, const Floats<N>& x) const {
    if constexpr (N == 1) {
      base[i] += x.v[0];
    } else {
#pragma unroll
      for (int plane = 0; plane < N / 4; plane++) {
        float4 sum = at(plane, i);
        sum.x += x.v[4 * plane], sum.y += x.v[4 * plane + 1];
        sum.z += x.v[4 * plane + 2], sum.w += x.v[4 * plane + 3];
        at(plane, i) = sum;
      }
    }
  }
  __device__ __forceinline__ void write(float* out, int i) const {
    if constexpr (N == 1) {
      out[i] = base[i];
    } else {
#pragma unroll
      for (int plane = 0; plane < N / 4; plane++)
        reinterpret_cast<float4*>(out)[i * (N / 4) + plane] = at(plane, i);
    }
  }

 private:
  __device__ __forceinline__ float4& at(int plane, int i) const {
    return reinterpret_cast<float4*>(base)[plane * vectors + i];
  }
};

// Blocks on a multiprocessor at once: 64 registers a thread. Left to itself, ptxas takes fewer and spills.
constexpr int kBlocksTogether = 4;

// The widest rows fit the 99 KiB that a block may ask for on sm_86, 89 and 120, which have the least.
static_assert(2 * kMostNormColumns * int64_t{sizeof(float)} + int64_t{sizeof(float2[2][kWarps])} <= 99 * 1024);

// One block a chunk of rows, which it goes through one by one: a sweep for the row's two means and the sums of d_weight
// and d_bias, then one that writes d_in, at offsets that are whole numbers of vectors, (...) * N: otherwise nvcc takes the
// stores apart.
template <class T, int N, class Params>
__global__ void __launch_bounds__(kThreads, kBlocksTogether)
    norm_backward(Params p, float* shares, int64_t chunk_rows) {
  extern __shared__ float4 dynamic_shared[];  // kSums C floats
  __shared__ float2 parts[2][kWarps];         // of g and g h, by turns for even and odd rows
  constexpr int kSums = kCentred<Params> ? 2 : 1;
  const int C = static_cast<int>(p.C), vectors = C / N;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kLanes;
  const float columns = static_cast<float>(C);
  float* sums = reinterpret_cast<float*>(dynamic_shared);
  const OwnSums<N> weight_sums{sums, vectors}, bias_sums{sums + C, vectors};  // the latter of LayerNorm only
  const T* weight = static_cast<const T*>(p.weight);
  T* d_in = static_cast<T*>(p.d_in);

  for (int i = thread; i < vectors; i += kThreads) {
    weight_sums.clear(i);
    if constexpr (kCentred<Params>) bias_sums.clear(i);
  }

  const int64_t begin = int64_t{blockIdx.x} * chunk_rows;
  const int64_t end = begin + chunk_rows < p.rows ? begin + chunk_rows : p.rows;
  for (int64_t row = begin; row < end; row++) {
    const T* in = static_cast<const T*>(p.in) + row * p.C;
    const T* d_out = static_cast<const T*>(p.d_out) + row * p.C;
    const T* d_residual = p.d_residual ? static_cast<const T*>(p.d_residual) + row * p.C : nullptr;
    const float rstd = p.rstd[row];
    float mean = 0;
    if constexpr (kCentred<Params>) mean = p.mean[row];

    float sum_g = 0, sum_gh = 0;
#pragma unroll 1
    for (int i = thread; i < vectors; i += kThreads) {
      const Floats<N> x = load<N>(in + i * N), d = load<N>(d_out + i * N), w = load<N>(weight + i * N);
      Floats<N> dh;
#pragma unroll
      for (int k = 0; k < N; k++) {
        dh.v[k] = d.v[k] * ((x.v[k] - mean) * rstd);
        sum_g += d.v[k] * w.v[k];
        sum_gh += dh.v[k] * w.v[k];
      }
      weight_sums.add(i, dh);
      if constexpr (kCentred<Params>) bias_sums.add(i, d);
    }
    sum_g = warp_sum(sum_g);
    sum_gh = warp_sum(sum_gh);
    float2* turn = parts[row & 1];
    if (thread % kLanes == 0) turn[warp] = make_float2(sum_g, sum_gh);
    __syncthreads();
    float mean_g = 0, mean_gh = 0;
#pragma unroll
    for (int i = 0; i < kWarps; i++) {
      mean_g += turn[i].x;
      mean_gh += turn[i].y;
    }
    mean_g = kCentred<Params> ? mean_g / columns : 0;
    mean_gh /= columns;

#pragma unroll 1
    for (int i = thread; i < vectors; i += kThreads) {
      const Floats<N> x = load<N>(in + i * N), d = load<N>(d_out + i * N), w = load<N>(weight + i * N);
      Floats<N> y;
#pragma unroll
      for (int k = 0; k < N; k++) {
        const float h = (x.v[k] - mean) * rstd;
        y.v[k] = rstd * (d.v[k] * w.v[k] - mean_g - h * mean_gh);
      }
      if (d_residual) {
        const Floats<N> r = load<N>(d_residual + i * N);
#pragma unroll
        for (int k = 0; k < N; k++) y.v[k] += r.v[k];
      }
      store<N>(d_in + (row * vectors + i) * N, y);
    }
  }

  float* share = shares + int64_t{blockIdx.x} * kSums * p.C;
  for (int i = thread; i < vectors; i += kThreads) {
    weight_sums.write(share, i);
    if constexpr (kCentred<Params>) bias_sums.write(share + C, i);
  }
}

int64_t chunk_rows_of(int64_t rows) {
  constexpr int64_t kChunks = 512, kLeast = 4;
  const int64_t chunk = (rows + kChunks - 1) / kChunks;
  return chunk < kLeast ? kLeast : chunk;
}

template <class Params>
void launch_forward(const char* name, const Params& p, bool whole, cudaStream_t stream) {
  with_vectors(p.dtype, whole, [&]<class T, int N>() {
    launch({name, {blocks_for(p.rows, kWarps)}, dim3(kLanes, kWarps), stream}, norm_forward<T, N, Params>, p);
  });
}

template <class Params>
void launch_backward(const char* name, const Params& p, bool whole, float* shares, cudaStream_t stream) {
  constexpr int64_t kSums = kCentred<Params> ? 2 : 1;
  with_vectors(p.dtype, whole, [&]<class T, int N>() {
    launch({name, {norm_chunks(p.rows)}, kThreads, stream, static_cast<size_t>(kSums * p.C) * sizeof(float)},
           norm_backward<T, N, Params>, p, shares, chunk_rows_of(p.rows));
  });
  add_column_sums(p.d_weight, shares, norm_chunks(p.rows), p.C, kSums * p.C, stream);
}

}  // namespace

int64_t norm_chunks(int64_t rows) {
  return blocks_for(rows, chunk_rows_of(rows));
}

void launch_norm_forward(const LayerNormForward& p, cudaStream_t stream) {
  launch_forward("layernorm_forward", p, aligned_rows(p.dtype, p.C, {p.out, p.in, p.weight, p.bias}), stream);
}

void launch_norm_forward(const RmsNormForward& p, cudaStream_t stream) {
  launch_forward("rmsnorm_forward", p, aligned_rows(p.dtype, p.C, {p.out, p.in, p.weight}), stream);
}

void launch_norm_backward(const LayerNormBackward& p, float* shares, cudaStream_t stream) {
  launch_backward("layernorm_backward", p,
                  aligned_rows(p.dtype, p.C, {p.d_in, p.d_out, p.d_residual, p.in, p.weight}), shares,
                  stream);
  add_column_sums(p.d_bias, shares + p.C, norm_chunks(p.rows), p.C, 2 * p.C, stream);
}

void launch_norm_backward(const RmsNormBackward& p, float* shares, cudaStream_t stream) {
  launch_backward("rmsnorm_backward", p,
                  aligned_rows(p.dtype, p.C, {p.d_in, p.d_out, p.d_residual, p.in, p.weight}), shares,
                  stream);
}

}  // namespace kiln::kernels::cuda
