#include "kernels/norm.h"

#include "kernels/cpu/simd.h"

namespace kiln::kernels::cpu::KILN_ISA {
namespace {

// Sums over the columns of a row: add(lanes, parts) adds its columns to each parts[k]. Four sets of partial
// sums hide the latency of additions and, with their lanes, keep rounding errors near those of C / (4 kLanes)
// additions.
template <int kSums, class Add>
inline void sum_columns(int64_t C, float (&sums)[kSums], Add add) {
  Vec parts[4][kSums] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= C; i += 4 * kLanes) {
    add(Whole{i}, parts[0]);
    add(Whole{i + kLanes}, parts[1]);
    add(Whole{i + 2 * kLanes}, parts[2]);
    add(Whole{i + 3 * kLanes}, parts[3]);
  }
  for_vectors(i, C, [&](auto lanes) { add(lanes, parts[0]); });
  for (int k = 0; k < kSums; k++) sums[k] = sum((parts[0][k] + parts[1][k]) + (parts[2][k] + parts[3][k]));
}

int64_t forward_grain(int64_t C) {
  return 1 + 8 * 1024 / C;
}  // rows: some 32 KiB of input

// Rows whose contributions to d_weight and d_bias are summed into one partial result. It depends on the
// number of rows alone, so that the order of additions does too.
int64_t rows_per_chunk(int64_t rows) {
  constexpr int64_t kChunks = 64, kLeast = 8;
  const int64_t chunk = (rows + kChunks - 1) / kChunks;
  return chunk < kLeast ? kLeast : chunk;
}
int64_t chunks_of(int64_t rows) {
  return (rows + rows_per_chunk(rows) - 1) / rows_per_chunk(rows);
}

}  // namespace

// Three sweeps over a row: mean, variance around that mean, output. The first brings the row into the L1
// cache. An error d of the mean changes the variance by d^2 only.
void layernorm_forward(Context& context, const LayerNormForward& p) {
  const float* weight = static_cast<const float*>(p.weight);
  const float* bias = static_cast<const float*>(p.bias);
  const int64_t C = p.C;
  const float columns = static_cast<float>(C);
  context.pool->parallel_for(p.rows, forward_grain(C), [&, weight, bias, C](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; row++) {
      const float* in = static_cast<const float*>(p.in) + row * C;
      float* out = static_cast<float*>(p.out) + row * C;
      float total[1];
      sum_columns(C, total, [=](auto lanes, Vec* parts) { parts[0] += lanes.load(in); });
      const float mean = total[0] / columns;
      const Vec means = broadcast(mean);
      sum_columns(C, total, [=](auto lanes, Vec* parts) {
        const Vec deviation = lanes.load(in, mean) - means;
        parts[0] += deviation * deviation;
      });
      const float rstd = 1.0f / __builtin_sqrtf(total[0] / columns + p.eps);
      const Vec rstds = broadcast(rstd);
      for_vectors(0, C, [=](auto lanes) {
        lanes.store(out, (lanes.load(in) - means) * rstds * lanes.load(weight) + lanes.load(bias));
      });
      p.mean[row] = mean;
      p.rstd[row] = rstd;
    }
  });
}

// Two sweeps over a row: the first brings it into the L1 cache, takes the two means and adds to the chunk's
// share of d_weight and d_bias; the second writes d_in. A second, small loop adds up the shares in order.
void layernorm_backward(Context& context, const LayerNormBackward& p) {
  const float* weight = static_cast<const float*>(p.weight);
  const int64_t C = p.C, chunk_rows = rows_per_chunk(p.rows), chunks = chunks_of(p.rows);
  const float columns = static_cast<float>(C);
  Workspace::Scope scope(context.workspace);
  float* shares = scope.take<float>(chunks * 2 * C);  // (chunks, 2, C): d_weight, d_bias

  context.pool->parallel_for(p.rows, chunk_rows, [&, weight, C](int64_t begin, int64_t end, int) {
    float* d_weight = shares + begin / chunk_rows * 2 * C;
    float* d_bias = d_weight + C;
    __builtin_memset(d_weight, 0, static_cast<size_t>(2 * C) * sizeof(float));
    for (int64_t row = begin; row < end; row++) {
      const float* in = static_cast<const float*>(p.in) + row * C;
      const float* d_out = static_cast<const float*>(p.d_out) + row * C;
      const float* d_residual = p.d_residual ? static_cast<const float*>(p.d_residual) + row * C : nullptr;
      float* d_in = static_cast<float*>(p.d_in) + row * C;
      const Vec mean = broadcast(p.mean[row]), rstd = broadcast(p.rstd[row]);

      float totals[2];  // of g and of g h
      sum_columns(C, totals, [=](auto lanes, Vec* parts) {
        const Vec d = lanes.load(d_out);
        const Vec h = (lanes.load(in) - mean) * rstd;
        const Vec g = d * lanes.load(weight);
        parts[0] += g;
        parts[1] += g * h;
        lanes.store(d_weight, lanes.load(d_weight) + d * h);
        lanes.store(d_bias, lanes.load(d_bias) + d);
      });

      const Vec mean_g = broadcast(totals[0] / columns), mean_gh = broadcast(totals[1] / columns);
      for_vectors(0, C, [=](auto lanes) {
        const Vec h = (lanes.load(in) - mean) * rstd;
        const Vec g = lanes.load(d_out) * lanes.load(weight);
        const Vec through = rstd * (g - mean_g - h * mean_gh);
        lanes.store(d_in, d_residual ? lanes.load(d_residual) + through : through);
      });
    }
  });

  constexpr int64_t kColumns = 64;
  context.pool->parallel_for(C, kColumns, [&, C](int64_t begin, int64_t end, int) {
    for_vectors(begin, end, [&](auto lanes) {
      Vec weights = {}, biases = {};
      for (int64_t chunk = 0; chunk < chunks; chunk++) {
        weights += lanes.load(shares + chunk * 2 * C);
        biases += lanes.load(shares + (chunk * 2 + 1) * C);
      }
      lanes.store(p.d_weight, lanes.load(p.d_weight) + weights);
      lanes.store(p.d_bias, lanes.load(p.d_bias) + biases);
    });
  });
}

void rmsnorm_forward(Context& context, const RmsNormForward& p) {
  const float* weight = static_cast<const float*>(p.weight);
  const int64_t C = p.C;
  const float columns = static_cast<float>(C);
  context.pool->parallel_for(p.rows, forward_grain(C), [&, weight, C](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; row++) {
      const float* in = static_cast<const float*>(p.in) + row * C;
      float* out = static_cast<float*>(p.out) + row * C;
      float total[1];
      sum_columns(C, total, [=](auto lanes, Vec* parts) {
        const Vec x = lanes.load(in);
        parts[0] += x * x;
      });
      const float rstd = 1.0f / __builtin_sqrtf(total[0] / columns + p.eps);
      const Vec rstds = broadcast(rstd);
      for_vectors(0, C, [=](auto lanes) { lanes.store(out, lanes.load(in) * rstds * lanes.load(weight)); });
      p.rstd[row] = rstd;
    }
  });
}

// As layernorm_backward, without the mean and the bias.
void rmsnorm_backward(Context& context, const RmsNormBackward& p) {
  const float* weight = static_cast<const float*>(p.weight);
  const int64_t C = p.C, chunk_rows = rows_per_chunk(p.rows), chunks = chunks_of(p.rows);
  const float columns = static_cast<float>(C);
  Workspace::Scope scope(context.workspace);
  float* shares = scope.take<float>(chunks * C);  // (chunks, C): d_weight

  context.pool->parallel_for(p.rows, chunk_rows, [&, weight, C](int64_t begin, int64_t end, int) {
    float* d_weight = shares + begin / chunk_rows * C;
    __builtin_memset(d_weight, 0, static_cast<size_t>(C) * sizeof(float));
    for (int64_t row = begin; row < end; row++) {
      const float* in = static_cast<const float*>(p.in) + row * C;
      const float* d_out = static_cast<const float*>(p.d_out) + row * C;
      const float* d_residual = p.d_residual ? static_cast<const float*>(p.d_residual) + row * C : nullptr;
      float* d_in = static_cast<float*>(p.d_in) + row * C;
      const Vec rstd = broadcast(p.rstd[row]);

      float total[1];  // of g h
      sum_columns(C, total, [=](auto lanes, Vec* parts) {
        const Vec dh = lanes.load(d_out) * (lanes.load(in) * rstd);
        parts[0] += dh * lanes.load(weight);
        lanes.store(d_weight, lanes.load(d_weight) + dh);
      });

      const Vec mean_gh = broadcast(total[0] / columns);
      for_vectors(0, C, [=](auto lanes) {
        const Vec h = lanes.load(in) * rstd;
        const Vec through = rstd * (lanes.load(d_out) * lanes.load(weight) - h * mean_gh);
        lanes.store(d_in, d_residual ? lanes.load(d_residual) + through : through);
      });
    }
  });

  constexpr int64_t kColumns = 64;
  context.pool->parallel_for(C, kColumns, [&, C](int64_t begin, int64_t end, int) {
    for_vectors(begin, end, [&](auto lanes) {
      Vec weights = {};
      for (int64_t chunk = 0; chunk < chunks; chunk++) weights += lanes.load(shares + chunk * C);
      lanes.store(p.d_weight, lanes.load(p.d_weight) + weights);
    });
  });
}

size_t layernorm_forward_workspace_bytes(const LayerNormForward&, const Device&) {
  return 0;
}

size_t layernorm_backward_workspace_bytes(const LayerNormBackward& p, const Device&) {
  return Workspace::bytes_for<float>(chunks_of(p.rows) * 2 * p.C);
}

size_t rmsnorm_forward_workspace_bytes(const RmsNormForward&, const Device&) {
  return 0;
}

size_t rmsnorm_backward_workspace_bytes(const RmsNormBackward& p, const Device&) {
  return Workspace::bytes_for<float>(chunks_of(p.rows) * p.C);
}

}  // namespace kiln::kernels::cpu::KILN_ISA
