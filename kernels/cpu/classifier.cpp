#include "kernels/classifier.h"

#include "kernels/cpu/simd.h"

namespace kiln::kernels::cpu::KILN_ISA {
namespace {

constexpr int64_t kBlock =
    1024;  // columns: 4 KiB, read from memory for the maximum, from the L1 cache for the sum

struct Normaliser {
  float max;   // of the row
  double sum;  // of exp(logit - max); at least about 1
};

// One read of the row: block by block, the sum so far is rescaled when a block raises the maximum.
Normaliser normaliser(const float* row, int64_t V) {
  Normaliser n{row[0], 0};
  for (int64_t begin = 0; begin < V; begin += kBlock) {
    const int64_t end = begin + kBlock < V ? begin + kBlock : V;
    Vec largest = broadcast(n.max);
    for_vectors(begin, end, [&](auto lanes) { largest = max(lanes.load(row, n.max), largest); });
    const float block_max = max_element(largest);
    if (block_max > n.max) {
      n.sum *= __builtin_exp(static_cast<double>(n.max) - block_max);
      n.max = block_max;
    }
    const Vec maxima = broadcast(n.max);
    Vec sums = {};
    // The lanes of a ragged rest hold minus infinity: they add nothing.
    for_vectors(begin, end, [&](auto lanes) { sums += exp(lanes.load(row, -__builtin_inff()) - maxima); });
    n.sum += sum(sums);
  }
  return n;
}

}  // namespace

void softmax_cross_entropy(Context& context, const SoftmaxCrossEntropy& p) {
  const int64_t grain = 1 + 8 * 1024 / p.Vp;  // rows: some 32 KiB of logits, or one row
  context.pool->parallel_for(p.rows, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) {
      float* row = static_cast<float*>(p.logits) + i * p.ld;
      const int32_t target = p.targets[i];
      if (target < 0) {
        p.losses[i] = 0;
        if (p.write_gradient) __builtin_memset(row, 0, static_cast<size_t>(p.Vp) * sizeof(float));
        continue;
      }
      const Normaliser n = normaliser(row, p.V);
      // Differences of logits are exact in double, so that large logits cost the loss nothing.
      p.losses[i] = static_cast<float>(static_cast<double>(n.max) - row[target] + __builtin_log(n.sum));
      if (!p.write_gradient) continue;
      const Vec maxima = broadcast(n.max), factor = broadcast(static_cast<float>(p.scale / n.sum));
      for_vectors(0, p.V, [=](auto lanes) { lanes.store(row, exp(lanes.load(row) - maxima) * factor); });
      row[target] -= p.scale;
      __builtin_memset(row + p.V, 0, static_cast<size_t>(p.Vp - p.V) * sizeof(float));
    }
  });
}

size_t softmax_cross_entropy_workspace_bytes(const SoftmaxCrossEntropy&, const Device&) {
  return 0;
}

}  // namespace kiln::kernels::cpu::KILN_ISA
