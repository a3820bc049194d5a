// Pointwise kernels: a vector of 16 bytes a thread.
#include "kernels/cuda/activation.h"

#include "kernels/cuda/launch.cuh"

namespace kiln::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// 0.5 (1 + tanh(u)) is the logistic function of 2u, which needs no tanh and loses nothing for u < 0.
// 2u = x (kLinear + kCubic x^2).
constexpr float kLinear = 1.5957691216057308f;  // 2 sqrt(2/pi)
constexpr float kCubic = 0.044715f * 1.5957691216057308f;

// 1 / (1 + exp(-x)) and what it lacks to 1. The exponential is that of a negative number: it never overflows.
struct Logistic {
  float value, rest;
};
__device__ __forceinline__ Logistic logistic(float x) {
  const float e = expf(-fabsf(x));
  const float larger = __fdividef(1.0f, 1.0f + e), smaller = e * larger;
  return x < 0 ? Logistic{smaller, larger} : Logistic{larger, smaller};
}

__device__ __forceinline__ float gelu(float x) {
  return x * logistic(x * (kLinear + kCubic * x * x)).value;
}

// With s the logistic function of 2u: s + x s (1 - s) (2u)'. Where s is 0 or 1 the second term is 0, though x^3 may be
// infinite. NaN is neither.
__device__ __forceinline__ float gelu_derivative(float x) {
  const float square = x * x;
  const Logistic s = logistic(x * (kLinear + kCubic * square));
  const float product = s.value * s.rest;
  return product == 0 ? s.value : s.value + x * (kLinear + 3.0f * kCubic * square) * product;
}

// s (1 + x (1 - s))
__device__ __forceinline__ float silu_derivative(float x, const Logistic& s) {
  return s.value + x * (s.value * s.rest);
}

template <class T>
struct Gelu {
  T* out;
  const T* in;
  template <int N>
  __device__ __forceinline__ void at(int64_t i) const {
    Floats<N> x = load<N>(in + i);
#pragma unroll
    for (int k = 0; k < N; k++) x.v[k] = gelu(x.v[k]);
    store<N>(out + i, x);
  }
};

template <class T>
struct GeluGradient {
  T* d_in;
  const T *d_out, *in;
  template <int N>
  __device__ __forceinline__ void at(int64_t i) const {
    const Floats<N> x = load<N>(in + i);
    Floats<N> d = load<N>(d_out + i);
#pragma unroll
    for (int k = 0; k < N; k++) d.v[k] *= gelu_derivative(x.v[k]);
    store<N>(d_in + i, d);
  }
};

template <class T>
struct Sum {
  T* out;
  const T *a, *b;
  template <int N>
  __device__ __forceinline__ void at(int64_t i) const {
    Floats<N> x = load<N>(a + i);
    const Floats<N> y = load<N>(b + i);
#pragma unroll
    for (int k = 0; k < N; k++) x.v[k] += y.v[k];
    store<N>(out + i, x);
  }
};

// f at every vector of n elements, then at each of the elements that are left over.
template <int N, class F>
__global__ void __launch_bounds__(kThreads) for_each(F f, int64_t n) {
  const int64_t vectors = n / N, i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < vectors) {
    f.template at<N>(i * N);
  } else if (const int64_t element = vectors * N + (i - vectors); element < n) {
    f.template at<1>(element);
  }
}

template <int N, class F>
void launch_for_each(const char* name, const F& f, int64_t n, cudaStream_t stream) {
  launch({name, {blocks_for(n / N + n % N, kThreads)}, kThreads, stream}, for_each<N, F>, f, n);
}

// A block has kThreads vectors of one row. Offsets are whole numbers of vectors, (...) * N: otherwise nvcc takes the stores
// apart.
template <class T, int N>
__global__ void __launch_bounds__(kThreads) swiglu_forward(SwigluForward p) {
  const int64_t vectors = p.F / N, i = int64_t{blockIdx.y} * kThreads + threadIdx.x, row = blockIdx.x;
  if (i >= vectors) return;
  const T* in = static_cast<const T*>(p.in);
  const Floats<N> gate = load<N>(in + (2 * row * vectors + i) * N);
  Floats<N> up = load<N>(in + ((2 * row + 1) * vectors + i) * N);
#pragma unroll
  for (int k = 0; k < N; k++) up.v[k] *= gate.v[k] * logistic(gate.v[k]).value;
  store<N>(static_cast<T*>(p.out) + (row * vectors + i) * N, up);
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads) swiglu_backward(SwigluBackward p) {
  const int64_t vectors = p.F / N, i = int64_t{blockIdx.y} * kThreads + threadIdx.x, row = blockIdx.x;
  if (i >= vectors) return;
  const int64_t gate_at = (2 * row * vectors + i) * N, up_at = ((2 * row + 1) * vectors + i) * N;
  const T* in = static_cast<const T*>(p.in);
  T* d_in = static_cast<T*>(p.d_in);
  Floats<N> gate = load<N>(in + gate_at), up = load<N>(in + up_at);
  const Floats<N> d = load<N>(static_cast<const T*>(p.d_out) + (row * vectors + i) * N);
#pragma unroll
  for (int k = 0; k < N; k++) {
    const float x = gate.v[k];
    const Logistic s = logistic(x);
    gate.v[k] = d.v[k] * up.v[k] * silu_derivative(x, s);
    up.v[k] = d.v[k] * (x * s.value);
  }
  store<N>(d_in + gate_at, gate);
  store<N>(d_in + up_at, up);
}

Grid grid_of(int64_t rows, int64_t vectors) {
  return {rows, blocks_for(vectors, kThreads)};
}

}  // namespace

void launch_gelu_forward(const GeluForward& p, cudaStream_t stream) {
  with_vectors(p.dtype, aligned_rows(p.dtype, 0, {p.out, p.in}), [&]<class T, int N>() {
    launch_for_each<N>("gelu_forward", Gelu<T>{static_cast<T*>(p.out), static_cast<const T*>(p.in)}, p.n,
                       stream);
  });
}

void launch_gelu_backward(const GeluBackward& p, cudaStream_t stream) {
  with_vectors(p.dtype, aligned_rows(p.dtype, 0, {p.d_in, p.d_out, p.in}), [&]<class T, int N>() {
    const GeluGradient<T> f{static_cast<T*>(p.d_in), static_cast<const T*>(p.d_out),
                            static_cast<const T*>(p.in)};
    launch_for_each<N>("gelu_backward", f, p.n, stream);
  });
}

void launch_residual_forward(const ResidualForward& p, cudaStream_t stream) {
  with_vectors(p.dtype, aligned_rows(p.dtype, 0, {p.out, p.a, p.b}), [&]<class T, int N>() {
    const Sum<T> f{static_cast<T*>(p.out), static_cast<const T*>(p.a), static_cast<const T*>(p.b)};
    launch_for_each<N>("residual_forward", f, p.n, stream);
  });
}

void launch_swiglu_forward(const SwigluForward& p, cudaStream_t stream) {
  with_vectors(p.dtype, aligned_rows(p.dtype, p.F, {p.out, p.in}), [&]<class T, int N>() {
    launch({"swiglu_forward", grid_of(p.rows, p.F / N), kThreads, stream}, swiglu_forward<T, N>, p);
  });
}

void launch_swiglu_backward(const SwigluBackward& p, cudaStream_t stream) {
  with_vectors(p.dtype, aligned_rows(p.dtype, p.F, {p.d_in, p.d_out, p.in}), [&]<class T, int N>() {
    launch({"swiglu_backward", grid_of(p.rows, p.F / N), kThreads, stream}, swiglu_backward<T, N>, p);
  });
}

}  // namespace kiln::kernels::cuda
