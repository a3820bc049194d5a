#include "kernels/activation.h"

#include "kernels/cpu/simd.h"

namespace kiln::kernels::cpu::KILN_ISA {
namespace {

constexpr int64_t kGrain =
    16 * 1024;  // elements, 64 KiB of each operand: work enough to hide handing out a chunk

// 0.5 (1 + tanh(u)) is the logistic function of 2u: one exponential, one division, and no cancellation for u
// < 0. 2u = x (kLinear + kCubic x^2).
constexpr float kLinear = 1.5957691216057308f;  // 2 sqrt(2/pi)
constexpr float kCubic = 0.044715f * 1.5957691216057308f;

Vec gelu(Vec x) {
  const Vec two_u = x * (broadcast(kLinear) + broadcast(kCubic) * x * x);
  return x / (broadcast(1.0f) + exp(-two_u));
}

// With e = exp(-2u), s = 1 / (1 + e): gelu = x s, s' = s (1 - s) (2u)', and 1 - s = e s without cancellation.
Vec gelu_derivative(Vec in) {
  // Beyond 9.5 the derivative is 1 or 0 to within 1e-31, while e and x^2 stay finite; NaN passes the clamp.
  const Vec x = min(broadcast(9.5f), max(broadcast(-9.5f), in));
  const Vec square = x * x;
  const Vec two_u = x * (broadcast(kLinear) + broadcast(kCubic) * square);
  const Vec slope = broadcast(kLinear) + broadcast(3.0f * kCubic) * square;
  const Vec e = exp(-two_u);
  const Vec s = broadcast(1.0f) / (broadcast(1.0f) + e);
  return s + x * slope * s * (e * s);
}

// Rows of F elements that one task works on.
int64_t row_grain(int64_t F) {
  return 1 + kGrain / F;
}

// s (1 + x (1 - s)) with 1 - s = e s. Beyond 87 the derivative is 1 or 0 to within 1e-35, while e stays finite.
Vec silu_derivative(Vec in) {
  const Vec x = min(broadcast(87.0f), max(broadcast(-87.0f), in));
  const Vec e = exp(-x);
  const Vec s = broadcast(1.0f) / (broadcast(1.0f) + e);
  return s + x * s * (e * s);
}

Vec silu(Vec x) {
  return x / (broadcast(1.0f) + exp(-x));
}

}  // namespace

void swiglu_forward(Context& context, const SwigluForward& p) {
  const int64_t F = p.F;
  context.pool->parallel_for(p.rows, row_grain(F), [&, F](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; row++) {
      const float* gate = static_cast<const float*>(p.in) + row * 2 * F;
      const float* up = gate + F;
      float* out = static_cast<float*>(p.out) + row * F;
      for_vectors(0, F, [=](auto lanes) { lanes.store(out, silu(lanes.load(gate)) * lanes.load(up)); });
    }
  });
}

void swiglu_backward(Context& context, const SwigluBackward& p) {
  const int64_t F = p.F;
  context.pool->parallel_for(p.rows, row_grain(F), [&, F](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; row++) {
      const float* gate = static_cast<const float*>(p.in) + row * 2 * F;
      const float* up = gate + F;
      const float* d_out = static_cast<const float*>(p.d_out) + row * F;
      float* d_gate = static_cast<float*>(p.d_in) + row * 2 * F;
      float* d_up = d_gate + F;
      for_vectors(0, F, [=](auto lanes) {
        const Vec g = lanes.load(gate), d = lanes.load(d_out), u = lanes.load(up);
        lanes.store(d_gate, d * u * silu_derivative(g));
        lanes.store(d_up, d * silu(g));
      });
    }
  });
}

void gelu_forward(Context& context, const GeluForward& p) {
  float* out = static_cast<float*>(p.out);
  const float* in = static_cast<const float*>(p.in);
  context.pool->parallel_for(p.n, kGrain, [=](int64_t begin, int64_t end, int) {
    for_vectors(begin, end, [=](auto lanes) { lanes.store(out, gelu(lanes.load(in))); });
  });
}

void gelu_backward(Context& context, const GeluBackward& p) {
  float* d_in = static_cast<float*>(p.d_in);
  const float* d_out = static_cast<const float*>(p.d_out);
  const float* in = static_cast<const float*>(p.in);
  context.pool->parallel_for(p.n, kGrain, [=](int64_t begin, int64_t end, int) {
    for_vectors(begin, end,
                [=](auto lanes) { lanes.store(d_in, lanes.load(d_out) * gelu_derivative(lanes.load(in))); });
  });
}

void residual_forward(Context& context, const ResidualForward& p) {
  float* out = static_cast<float*>(p.out);
  const float* a = static_cast<const float*>(p.a);
  const float* b = static_cast<const float*>(p.b);
  context.pool->parallel_for(p.n, kGrain, [=](int64_t begin, int64_t end, int) {
    for_vectors(begin, end, [=](auto lanes) { lanes.store(out, lanes.load(a) + lanes.load(b)); });
  });
}

size_t swiglu_forward_workspace_bytes(const SwigluForward&, const Device&) {
  return 0;
}
size_t swiglu_backward_workspace_bytes(const SwigluBackward&, const Device&) {
  return 0;
}
size_t gelu_forward_workspace_bytes(const GeluForward&, const Device&) {
  return 0;
}
size_t gelu_backward_workspace_bytes(const GeluBackward&, const Device&) {
  return 0;
}
size_t residual_forward_workspace_bytes(const ResidualForward&, const Device&) {
  return 0;
}

}  // namespace kiln::kernels::cpu::KILN_ISA
