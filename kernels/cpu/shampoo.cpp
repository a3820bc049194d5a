#include "kernels/shampoo.h"

#include "kernels/cpu/sums.h"

namespace kiln::kernels::cpu::KILN_ISA {
namespace {

float at_least(float x, float least) {
  return x > least ? x : least;
}

// out[k * n + i] = sqrt(max(l_i, floor)), or 1/max(l_i, floor)
void floored(Context& context, float* out, ConstMatrices l, int64_t count, int64_t n, bool inverse) {
  context.pool->parallel_for(count, 1, [=](int64_t k, int64_t, int) {
    const float least = floor_of(l[k], n);
    for (int64_t i = 0; i < n; i++) {
      const float value = at_least(l[k][i], least);
      out[k * n + i] = inverse ? 1 / value : __builtin_sqrtf(value);
    }
  });
}

double trace(const float* s, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += s[i * n + i];
  return sum;
}

}  // namespace

void kl_precondition(Context& context, const KlPrecondition& p) {
  Workspace::Scope scope(context.workspace);
  float* a = scope.take<float>(p.count * p.rows);
  float* b = scope.take<float>(p.count * p.cols);
  floored(context, a, p.a, p.count, p.rows, false);
  floored(context, b, p.b, p.count, p.cols, false);
  const float eps = static_cast<float>(p.eps);
  for_row_blocks(context, p.count, p.rows, p.cols, [=](int64_t k, int64_t first, int64_t end, int64_t) {
    for (int64_t i = first; i < end; i++) {
      float* x = p.x[k] + i * p.cols;
      const float* roots = b + k * p.cols;
      const Vec root = broadcast(a[k * p.rows + i]);
      for_vectors(0, p.cols, [=](auto lanes) {
        lanes.store(x, lanes.load(x) / (root * lanes.load(roots, 1.0f) + broadcast(eps)));
      });
    }
  });
}

void kl_eigenvalues(Context& context, const KlEigenvalues& p) {
  const int64_t blocks = blocks_of(p.rows, p.cols);
  Workspace::Scope scope(context.workspace);
  float* inverse_a = scope.take<float>(p.count * p.rows);
  float* inverse_b = scope.take<float>(p.count * p.cols);
  float* columns = scope.take<float>(p.count * blocks * p.cols);  // sum_i k_ij^2/a_i over each block of rows
  floored(context, inverse_a, p.a, p.count, p.rows, true);
  floored(context, inverse_b, p.b, p.count, p.cols, true);
  const float keep = static_cast<float>(p.b2);
  const float row_rest = static_cast<float>((1 - p.b2) / static_cast<double>(p.cols));
  const float column_rest = static_cast<float>((1 - p.b2) / static_cast<double>(p.rows));
  const float least_a = static_cast<float>(p.least_a), least_b = static_cast<float>(p.least_b);
  // Products are ordered so that squares of tiny gradients do not underflow.
  for_row_blocks(context, p.count, p.rows, p.cols, [=](int64_t k, int64_t first, int64_t end, int64_t block) {
    float* sums = columns + (k * blocks + block) * p.cols;
    for (int64_t j = 0; j < p.cols; j++) sums[j] = 0;
    const float* inverse = inverse_b + k * p.cols;
    for (int64_t i = first; i < end; i++) {
      const float* x = p.k[k] + i * p.cols;
      const Vec inverse_row = broadcast(inverse_a[k * p.rows + i]);
      Vec total = {};
      for_vectors(0, p.cols, [&](auto lanes) {
        const Vec v = lanes.load(x);
        total += v * lanes.load(inverse) * v;
        lanes.store(sums, lanes.load(sums) + v * inverse_row * v);
      });
      p.a[k][i] = at_least(keep * p.a[k][i] + row_rest * sum(total), least_a);
    }
  });
  context.pool->parallel_for(p.count, 1, [=](int64_t k, int64_t, int) {
    for (int64_t j = 0; j < p.cols; j++) {
      float total = 0;
      for (int64_t block = 0; block < blocks; block++) total += columns[(k * blocks + block) * p.cols + j];
      p.b[k][j] = at_least(keep * p.b[k][j] + column_rest * total, least_b);
    }
  });
}

void pro_eigenvalues(Context& context, const ProEigenvalues& p) {
  for_row_blocks(context, p.count, p.rows, p.cols, [=](int64_t k, int64_t first, int64_t end, int64_t) {
    const double rest = (1 - p.b2) / static_cast<double>(p.cols), scale = p.scale[k] * p.scale[k];
    for (int64_t i = first; i < end; i++) {
      const double inside = sum_of_squares_in(p.inside[k] + i * p.rank, 0, p.rank);
      const double outside = sum_of_squares_in(p.outside[k] + i * p.cols, 0, p.cols);
      p.l[k][i] = static_cast<float>(p.b2 * p.l[k][i] + rest * (inside + scale * outside));
    }
  });
}

void pro_tail_root(Context&, const ProTailRoot& p) {
  for (int64_t k = 0; k < p.count; k++) {
    const double mu = p.mu[k][0], tail = static_cast<double>(p.cols - p.rank);
    p.mean[k] = (trace(p.s[k], p.rank) + tail * mu) / static_cast<double>(p.cols);
    const float least = floor_of(p.mean[k]);
    p.out[k] = p.rank < p.cols ? 1 / __builtin_sqrt(mu > least ? mu : least) : 0;
  }
}

void pro_complement_scale(Context&, const ProComplementScale& p) {
  for (int64_t k = 0; k < p.count; k++) {
    const double complement = __builtin_sqrt(p.complement[k]);
    if (!(complement > 1e-5 * __builtin_sqrt(p.whole[k]))) {
      p.out[k] = 0;
    } else if (p.graft) {
      const double length = __builtin_sqrt(p.orthogonal[k]);
      p.out[k] = length > 0 ? p.tail_root[k] * complement / length : 0;
    } else {
      p.out[k] = p.factor;
    }
  }
}

void pro_rotate(Context& context, const ProRotate& p) {
  context.pool->parallel_for(p.count, 1, [=](int64_t k, int64_t, int) {
    float* s = p.s[k];
    const float mu = p.mu[k][0];
    const double before = trace(s, p.rank);
    for (int64_t i = 0; i < p.rank; i++) {
      for (int64_t j = 0; j < p.rank; j++) {
        const float outside = (i == j ? 1.0f : 0.0f) - p.overlap[k][i * p.rank + j];
        s[i * p.rank + j] = p.rotated[k][i * p.rank + j] + mu * outside;
      }
    }
    if (p.rank == p.cols) return;
    const double moved = (before - trace(s, p.rank)) / static_cast<double>(p.cols - p.rank);
    p.mu[k][0] = static_cast<float>(mu + moved);
  });
}

void pro_tail(Context&, const ProTail& p) {
  if (p.rank == p.cols) return;
  const double elements = static_cast<double>(p.rows) * static_cast<double>(p.cols - p.rank);
  for (int64_t k = 0; k < p.count; k++) {
    const double outside = p.whole[k] - p.inside[k];
    p.mu[k][0] = static_cast<float>(p.b2 * p.mu[k][0] + (1 - p.b2) * (outside > 0 ? outside : 0) / elements);
  }
}

size_t kl_precondition_workspace_bytes(const KlPrecondition& p, const Device&) {
  return Workspace::bytes_for<float>(p.count * p.rows) + Workspace::bytes_for<float>(p.count * p.cols);
}
size_t kl_eigenvalues_workspace_bytes(const KlEigenvalues& p, const Device&) {
  return Workspace::bytes_for<float>(p.count * p.rows) + Workspace::bytes_for<float>(p.count * p.cols) +
         Workspace::bytes_for<float>(p.count * blocks_of(p.rows, p.cols) * p.cols);
}
size_t pro_eigenvalues_workspace_bytes(const ProEigenvalues&, const Device&) {
  return 0;
}
size_t pro_tail_root_workspace_bytes(const ProTailRoot&, const Device&) {
  return 0;
}
size_t pro_complement_scale_workspace_bytes(const ProComplementScale&, const Device&) {
  return 0;
}
size_t pro_rotate_workspace_bytes(const ProRotate&, const Device&) {
  return 0;
}
size_t pro_tail_workspace_bytes(const ProTail&, const Device&) {
  return 0;
}

}  // namespace kiln::kernels::cpu::KILN_ISA
