// Softmax and cross-entropy: one block a row, which it reads once for the maximum and the sum together and once more if
// it writes the gradient. Columns are read as 16-byte vectors where rows begin on 16 bytes; the last V % N one by one.
#include "kernels/cuda/classifier.h"

#include <cfloat>

#include "kernels/cuda/launch.cuh"

namespace kiln::kernels::cuda {
namespace {

constexpr int kWarps = 16;
constexpr int kThreads = kWarps * kLanes;

// sum of exp(x - max) over some logits. The least float stands for the maximum of none: minus infinity would make
// NaN of the difference of two such.
struct Normaliser {
  float max, sum;
};
constexpr Normaliser kNone = {-FLT_MAX, 0};

// NaN among the logits does not become the maximum, but makes the sum NaN.
template <int N>
__device__ __forceinline__ void add(Normaliser& n, const Floats<N>& x) {
  float max = n.max;
#pragma unroll
  for (int k = 0; k < N; k++) max = fmaxf(max, x.v[k]);
  n.sum *= expf(n.max - max);
  n.max = max;
#pragma unroll
  for (int k = 0; k < N; k++) n.sum += expf(x.v[k] - max);
}

__device__ __forceinline__ Normaliser merged(const Normaliser& a, const Normaliser& b) {
  Normaliser n;
  n.max = fmaxf(a.max, b.max);
  n.sum = a.sum * expf(a.max - n.max) + b.sum * expf(b.max - n.max);
  return n;
}

// The same in each lane but for rounding: nvcc makes a fused multiply-add of one of the two products, which on either side of
// an exchange is another. Lane 0's is what the block goes on with.
__device__ __forceinline__ Normaliser warp_merged(Normaliser n) {
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    Normaliser other;
    other.max = __shfl_xor_sync(kAllLanes, n.max, distance);
    other.sum = __shfl_xor_sync(kAllLanes, n.sum, distance);
    n = merged(n, other);
  }
  return n;
}

// scale (softmax - onehot) of the N logits from column j on.
template <int N>
__device__ __forceinline__ Floats<N> gradient(Floats<N> x, int j, int target, float max, float factor,
                                              float scale) {
#pragma unroll
  for (int k = 0; k < N; k++) {
    const float p = expf(x.v[k] - max) * factor;
    x.v[k] = j + k == target ? p - scale : p;
  }
  return x;
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads) softmax_cross_entropy(SoftmaxCrossEntropy p) {
  __shared__ Normaliser parts[kWarps];
  const int64_t row = blockIdx.x;
  T* logits = static_cast<T*>(p.logits) + row * p.ld;
  const int thread = static_cast<int>(threadIdx.x), V = static_cast<int>(p.V), Vp = static_cast<int>(p.Vp);
  const int whole = V / N * N;  // columns that vectors cover
  const int target = p.targets[row];

  if (target < 0) {  // the whole block
    if (thread == 0) p.losses[row] = 0;
    if (p.write_gradient) {
      for (int j = thread; j < Vp; j += kThreads) store<1>(logits + j, Floats<1>{0});
    }
    return;
  }

  Normaliser n = kNone;
  for (int j = thread * N; j < whole; j += kThreads * N) add(n, load<N>(logits + j));
  for (int j = whole + thread; j < V; j += kThreads) add(n, load<1>(logits + j));
  n = warp_merged(n);
  if (thread % kLanes == 0) parts[thread / kLanes] = n;
  const float target_logit = thread == 0 ? load<1>(logits + target).v[0] : 0;  // before gradients replace it
  __syncthreads();
  n = parts[0];
#pragma unroll 4
  for (int i = 1; i < kWarps; i++) n = merged(n, parts[i]);

  if (thread == 0) p.losses[row] = n.max - target_logit + logf(n.sum);
  if (!p.write_gradient) return;
  const float factor = p.scale / n.sum;
  for (int j = thread * N; j < whole; j += kThreads * N) {
    store<N>(logits + j, gradient<N>(load<N>(logits + j), j, target, n.max, factor, p.scale));
  }
  for (int j = whole + thread; j < V; j += kThreads) {
    store<1>(logits + j, gradient<1>(load<1>(logits + j), j, target, n.max, factor, p.scale));
  }
  for (int j = V + thread; j < Vp; j += kThreads) store<1>(logits + j, Floats<1>{0});
}

}  // namespace

void launch_softmax_cross_entropy(const SoftmaxCrossEntropy& p, cudaStream_t stream) {
  with_vectors(p.dtype, aligned_rows(p.dtype, p.ld, {p.logits}), [&]<class T, int N>() {
    launch({"softmax_cross_entropy", {p.rows}, kThreads, stream}, softmax_cross_entropy<T, N>, p);
  });
}

}  // namespace kiln::kernels::cuda
