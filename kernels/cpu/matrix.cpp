// Element-wise work and norms of kernels/matrix.h.
#include "kernels/matrix.h"

#include "kernels/cpu/sums.h"

namespace kiln::kernels::cpu::KILN_ISA {
namespace {

// out[k] = ||x_k||_F^2; `parts` has a double for each block of rows.
void squares(Context& context, double* out, double* parts, const MatrixSquares& p) {
  const int64_t blocks = blocks_of(p.rows, p.cols), ld = stride(p.ld, p.cols);
  for_row_blocks(context, p.count, p.rows, p.cols, [=](int64_t k, int64_t first, int64_t end, int64_t block) {
    double sum = 0;
    if (ld == p.cols) {
      sum = sum_of_squares_in(p.x[k], first * ld, end * ld);
    } else {
      for (int64_t i = first; i < end; i++) sum += sum_of_squares_in(p.x[k] + i * ld, 0, p.cols);
    }
    parts[k * blocks + block] = sum;
  });
  for (int64_t k = 0; k < p.count; k++) {
    out[k] = 0;
    for (int64_t block = 0; block < blocks; block++) out[k] += parts[k * blocks + block];
  }
}

// out = alpha x^T + beta add for rows [first, end) of out: in small squares, so that cache lines are used up.
void combine_transposed(const MatrixCombine& p, float* out, const float* x, const float* add, float alpha,
                        float beta, int64_t first, int64_t end) {
  constexpr int64_t kSquare = 16;
  const int64_t ld_out = stride(p.ld_out, p.cols), ld_x = stride(p.ld_x, p.rows),
                ld_add = stride(p.ld_add, p.cols);
  for (int64_t i0 = first; i0 < end; i0 += kSquare) {
    const int64_t i1 = i0 + kSquare < end ? i0 + kSquare : end;
    for (int64_t j0 = 0; j0 < p.cols; j0 += kSquare) {
      const int64_t j1 = j0 + kSquare < p.cols ? j0 + kSquare : p.cols;
      for (int64_t i = i0; i < i1; i++) {
        for (int64_t j = j0; j < j1; j++) {
          const float value = alpha * x[j * ld_x + i];
          out[i * ld_out + j] = add ? value + beta * add[i * ld_add + j] : value;
        }
      }
    }
  }
}

void combine_row(float* out, const float* x, const float* add, float alpha, float beta, int64_t n) {
  if (add) {
    for_vectors(0, n, [=](auto lanes) {
      lanes.store(out, broadcast(alpha) * lanes.load(x) + broadcast(beta) * lanes.load(add));
    });
  } else {
    for_vectors(0, n, [=](auto lanes) { lanes.store(out, broadcast(alpha) * lanes.load(x)); });
  }
}

float inverse_power(float l, double power) {
  const float root = __builtin_sqrtf(l);
  if (power == -1) return 1 / l;
  return power == -0.5 ? 1 / root : 1 / __builtin_sqrtf(root);
}

// W <- W - decay W - rate u, or W <- W - rate u, then W <- W - decay W. The decay is subtracted on its own: 1
// - decay, rounded to fp32, would lose the low digits of a small decay.
template <bool kDecayFirst>
void update_row(float* w, const float* u, int64_t ld_u, float rate, float decay, int64_t n) {
  for (int64_t j = 0; j < n; j++) {
    const float step = rate * u[j * ld_u];
    if (kDecayFirst) {
      w[j] -= decay * w[j] + step;
    } else {
      const float moved = w[j] - step;
      w[j] = moved - decay * moved;
    }
  }
}

}  // namespace

void matrix_combine(Context& context, const MatrixCombine& p) {
  const int64_t ld_out = stride(p.ld_out, p.cols), ld_x = stride(p.ld_x, p.cols),
                ld_add = stride(p.ld_add, p.cols);
  for_row_blocks(context, p.count, p.rows, p.cols, [=](int64_t k, int64_t first, int64_t end, int64_t) {
    const float alpha = static_cast<float>(p.alpha * (p.scale ? p.scale[k] : 1.0)),
                beta = static_cast<float>(p.beta);
    const float* add = p.add ? p.add[k] : nullptr;
    if (p.x_transposed) return combine_transposed(p, p.out[k], p.x[k], add, alpha, beta, first, end);
    for (int64_t i = first; i < end; i++) {
      combine_row(p.out[k] + i * ld_out, p.x[k] + i * ld_x, add ? add + i * ld_add : nullptr, alpha, beta,
                  p.cols);
    }
  });
}

void matrix_normalise(Context& context, const MatrixNormalise& p) {
  Workspace::Scope scope(context.workspace);
  double* norms = scope.take<double>(p.count);
  double* parts = scope.take<double>(p.count * blocks_of(p.rows, p.cols));
  squares(context, norms, parts, {.out = norms, .x = p.x, .count = p.count, .rows = p.rows, .cols = p.cols});
  for (int64_t k = 0; k < p.count; k++) norms[k] = 1 / (p.safety * __builtin_sqrt(norms[k]) + 1e-7);
  matrix_combine(context, {.out = p.out,
                           .x = p.x,
                           .count = p.count,
                           .rows = p.rows,
                           .cols = p.cols,
                           .scale = norms,
                           .x_transposed = p.x_transposed});
}

void matrix_squares(Context& context, const MatrixSquares& p) {
  Workspace::Scope scope(context.workspace);
  squares(context, p.out, scope.take<double>(p.count * blocks_of(p.rows, p.cols)), p);
}

void matrix_scale(Context& context, const MatrixScale& p) {
  const int64_t n = p.along == Along::rows ? p.rows : p.cols;
  Workspace::Scope scope(context.workspace);
  float* factors = scope.take<float>(p.count * n);
  context.pool->parallel_for(p.count, 1, [=](int64_t k, int64_t, int) {
    const float least = p.mean ? floor_of(p.mean[k]) : floor_of(p.l[k], n);
    for (int64_t i = 0; i < n; i++) {
      const float l = p.l[k][i];
      factors[k * n + i] = inverse_power(l > least ? l : least, p.power);
    }
  });
  for_row_blocks(context, p.count, p.rows, p.cols, [=](int64_t k, int64_t first, int64_t end, int64_t) {
    const float* f = factors + k * n;
    for (int64_t i = first; i < end; i++) {
      float* out = p.out[k] + i * p.cols;
      const float* x = p.x[k] + i * p.cols;
      if (p.along == Along::rows) {
        combine_row(out, x, nullptr, f[i], 0, p.cols);
      } else {
        for_vectors(0, p.cols, [=](auto lanes) { lanes.store(out, lanes.load(x) * lanes.load(f)); });
      }
    }
  });
}

void weight_update(Context& context, const WeightUpdate& p) {
  const int64_t ld = stride(p.ld, p.cols);
  const float rate = static_cast<float>(p.lr * p.scale), decay = static_cast<float>(p.lr * p.decay);
  for_row_blocks(context, p.count, p.rows, p.cols, [=](int64_t k, int64_t first, int64_t end, int64_t) {
    for (int64_t i = first; i < end; i++) {
      float* w = p.param[k] + i * ld;
      const float* u = p.update_transposed ? p.update[k] + i : p.update[k] + i * p.cols;
      const int64_t ld_u = p.update_transposed ? p.rows : 1;
      if (p.decay_first) {
        update_row<true>(w, u, ld_u, rate, decay, p.cols);
      } else {
        update_row<false>(w, u, ld_u, rate, decay, p.cols);
      }
    }
  });
}

void matrix_fill(Context& context, const MatrixFill& p) {
  for_row_blocks(context, p.count, p.rows, p.cols, [=](int64_t k, int64_t first, int64_t end, int64_t) {
    const float value = static_cast<float>(p.alpha * (p.value ? __builtin_sqrt(p.value[k]) : 1.0));
    for (int64_t i = first; i < end; i++) {
      for (int64_t j = 0; j < p.cols; j++) p.out[k][i * p.cols + j] = i == j || !p.diagonal ? value : 0;
    }
  });
}

void root_start(Context& context, const RootStart& p) {
  const int64_t n = p.n;
  const double size = static_cast<double>(n);
  Workspace::Scope scope(context.workspace);
  double* sums = scope.take<double>(p.count * n);
  context.pool->parallel_for(p.count, 1, [=](int64_t k, int64_t, int) {
    const float* s = p.s[k];
    double* d = sums + k * n;  // row sums of |s'|
    double trace = 0, norm = 0, bound = 0;
    for (int64_t i = 0; i < n; i++) trace += s[i * n + i];
    const double ridge = 1e-6 * trace / size;
    for (int64_t i = 0; i < n; i++) {
      d[i] = ridge;
      for (int64_t j = 0; j < n; j++) d[i] += __builtin_fabs(static_cast<double>(s[i * n + j]));
      norm += sum_of_squares_in(s, i * n, i * n + n) + ridge * (2 * s[i * n + i] + ridge);
    }
    for (int64_t i = 0; i < n; i++) {
      double sum = ridge * d[i];
      for (int64_t j = 0; j < n; j++) sum += __builtin_fabs(static_cast<double>(s[i * n + j])) * d[j];
      const double ratio = d[i] > 0 ? sum / d[i] : 0;
      bound = ratio > bound ? ratio : bound;
    }
    const double mean = trace / size + ridge, variance = norm / size - mean * mean;
    const double other = mean + __builtin_sqrt((size - 1) * (variance > 0 ? variance : 0));
    const double largest = 1.01 * (other < bound ? other : bound);
    p.inverse_root[k] = 1 / __builtin_sqrt(largest);
    for (int64_t i = 0; i < n; i++) {
      for (int64_t j = 0; j < n; j++) {
        p.y[k][i * n + j] = static_cast<float>((s[i * n + j] + (i == j ? ridge : 0)) / largest);
      }
    }
  });
}

void identity_distance(Context& context, const IdentityDistance& p) {
  context.pool->parallel_for(p.count, 1, [=](int64_t k, int64_t, int) {
    double sum = 0;
    for (int64_t i = 0; i < p.n; i++) {
      const float* row = p.x[k] + i * p.n;
      const double diagonal = static_cast<double>(row[i]) - 1;
      sum += sum_of_squares_in(row, 0, i) + sum_of_squares_in(row, i + 1, p.n) + diagonal * diagonal;
    }
    p.out[k] = __builtin_sqrt(sum);
  });
}

size_t matrix_combine_workspace_bytes(const MatrixCombine&, const Device&) {
  return 0;
}
size_t matrix_normalise_workspace_bytes(const MatrixNormalise& p, const Device&) {
  return Workspace::bytes_for<double>(p.count) +
         Workspace::bytes_for<double>(p.count * blocks_of(p.rows, p.cols));
}
size_t matrix_squares_workspace_bytes(const MatrixSquares& p, const Device&) {
  return Workspace::bytes_for<double>(p.count * blocks_of(p.rows, p.cols));
}
size_t matrix_scale_workspace_bytes(const MatrixScale& p, const Device&) {
  return Workspace::bytes_for<float>(p.count * (p.along == Along::rows ? p.rows : p.cols));
}
size_t weight_update_workspace_bytes(const WeightUpdate&, const Device&) {
  return 0;
}
size_t matrix_fill_workspace_bytes(const MatrixFill&, const Device&) {
  return 0;
}
size_t root_start_workspace_bytes(const RootStart& p, const Device&) {
  return Workspace::bytes_for<double>(p.count * p.n);
}
size_t identity_distance_workspace_bytes(const IdentityDistance&, const Device&) {
  return 0;
}

}  // namespace kiln::kernels::cpu::KILN_ISA
