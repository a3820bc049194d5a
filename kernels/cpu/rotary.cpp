#include "kernels/rotary.h"

#include "kernels/cpu/simd.h"

namespace kiln::kernels::cpu::KILN_ISA {

void rotary_angles(Context& context, const RotaryAngles& p) {
  const int64_t half = p.head_size / 2;
  const int64_t grain = 1 + 256 / half;  // tokens
  context.pool->parallel_for(p.T, grain, [&, half](int64_t begin, int64_t end, int) {
    for (int64_t i = 0; i < half; i++) {
      const double frequency =
          __builtin_pow(p.theta, -2.0 * static_cast<double>(i) / static_cast<double>(p.head_size));
      for (int64_t t = begin; t < end; t++) {
        const double angle = static_cast<double>(p.first + t) * frequency;
        float* row = p.out + t * p.head_size;
        row[i] = static_cast<float>(__builtin_cos(angle));
        row[half + i] = static_cast<float>(__builtin_sin(angle));
      }
    }
  });
}

void rotary(Context& context, const Rotary& p) {
  float* x = static_cast<float*>(p.x);
  const int64_t half = p.head_size / 2, row = p.heads * p.head_size;
  const int64_t grain = 1 + 16 * 1024 / row;  // tokens: some 64 KiB
  const Vec turn = broadcast(p.inverse ? -1.0f : 1.0f);
  context.pool->parallel_for(p.B * p.T, grain, [&, x, half](int64_t begin, int64_t end, int) {
    for (int64_t token = begin; token < end; token++) {
      const float* cosines = p.angles + token % p.T * p.head_size;
      const float* sines = cosines + half;
      for (int64_t h = 0; h < p.heads; h++) {
        float* first = x + token * p.stride + h * p.head_size;
        float* second = first + half;
        for_vectors(0, half, [=](auto lanes) {
          const Vec c = lanes.load(cosines), s = turn * lanes.load(sines);
          const Vec a = lanes.load(first), b = lanes.load(second);
          lanes.store(first, a * c - b * s);
          lanes.store(second, b * c + a * s);
        });
      }
    }
  });
}

size_t rotary_angles_workspace_bytes(const RotaryAngles&, const Device&) {
  return 0;
}
size_t rotary_workspace_bytes(const Rotary&, const Device&) {
  return 0;
}

}  // namespace kiln::kernels::cpu::KILN_ISA
