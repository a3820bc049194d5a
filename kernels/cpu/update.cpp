#include "kernels/update.h"

#include "kernels/cpu/sums.h"

namespace kiln::kernels::cpu::KILN_ISA {
namespace {

constexpr int64_t kGrain = 16 * 1024;       // elements of one task, and of one partial sum
constexpr int64_t kZeroGrain = 256 * 1024;  // bytes

int64_t chunks_of(int64_t n) {
  return (n + kGrain - 1) / kGrain;
}

}  // namespace

void sum_of_squares(Context& context, const SumOfSquares& p) {
  const int64_t chunks = chunks_of(p.n);
  Workspace::Scope scope(context.workspace);
  double* parts = scope.take<double>(chunks);
  context.pool->parallel_for(p.n, kGrain, [&](int64_t begin, int64_t end, int) {
    parts[begin / kGrain] = sum_of_squares_in(p.x, begin, end);
  });
  double total = 0;
  for (int64_t chunk = 0; chunk < chunks; chunk++) total += parts[chunk];
  *p.out = total;
}

// One pass: four reads and three writes of 4 bytes for each parameter.
void adamw_step(Context& context, const AdamWStep& p) {
  const double t = static_cast<double>(p.t);
  const Vec scale = broadcast(static_cast<float>(p.gradient_scale));
  const Vec b1 = broadcast(static_cast<float>(p.b1)), rest1 = broadcast(static_cast<float>(1 - p.b1));
  const Vec b2 = broadcast(static_cast<float>(p.b2)), rest2 = broadcast(static_cast<float>(1 - p.b2));
  // Subtracted on its own: 1 - lr weight_decay, rounded to fp32, would lose the low digits of a small decay.
  const Vec decay = broadcast(static_cast<float>(p.lr * p.weight_decay));
  const Vec step = broadcast(static_cast<float>(p.lr / (1 - __builtin_pow(p.b1, t))));
  const Vec root = broadcast(static_cast<float>(1 / __builtin_sqrt(1 - __builtin_pow(p.b2, t))));
  const Vec eps = broadcast(static_cast<float>(p.eps));
  float *param = p.param, *first = p.m, *second = p.v;
  const float* gradient = p.gradient;
  context.pool->parallel_for(p.n, kGrain, [=](int64_t begin, int64_t end, int) {
    for_vectors(begin, end, [=](auto lanes) {
      const Vec g = scale * lanes.load(gradient);
      const Vec m = b1 * lanes.load(first) + rest1 * g;
      const Vec v = b2 * lanes.load(second) + rest2 * g * g;
      lanes.store(first, m);
      lanes.store(second, v);
      lanes.store(param, lanes.load(param) - (decay * lanes.load(param) + step * m / (sqrt(v) * root + eps)));
    });
  });
}

void set_zero(Context& context, const SetZero& p) {
  char* x = static_cast<char*>(p.x);
  context.pool->parallel_for(p.bytes, kZeroGrain, [=](int64_t begin, int64_t end, int) {
    __builtin_memset(x + begin, 0, static_cast<size_t>(end - begin));
  });
}

size_t sum_of_squares_workspace_bytes(const SumOfSquares& p, const Device&) {
  return Workspace::bytes_for<double>(chunks_of(p.n));
}
size_t adamw_step_workspace_bytes(const AdamWStep&, const Device&) {
  return 0;
}
size_t set_zero_workspace_bytes(const SetZero&, const Device&) {
  return 0;
}

}  // namespace kiln::kernels::cpu::KILN_ISA
