// A batch of matrices with everything an optimizer's step needs, and gradients to feed it.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <memory>

#include "optim/optimizer.h"
#include "tests/optim/reference_linear_algebra.h"
#include "tests/optim/support.h"

namespace kiln::tests {

using reference::Matrix;

// Gradients like those of a network: rows and columns of unequal size, a few directions that persist, noise.
// Exact in fp32.
inline Matrix gradient(int64_t rows, int64_t cols, uint64_t step, uint64_t matrix = 0, double size = 0.01) {
  const auto r = static_cast<size_t>(rows), c = static_cast<size_t>(cols);
  Matrix g(r, c, normals(rows * cols, 1000 * matrix + step));
  const auto left = normals(3 * rows, 77 + matrix), right = normals(3 * cols, 78 + matrix);
  const auto weight = normals(3, 5000 * (matrix + 1) + step);
  for (size_t i = 0; i < r; i++) {
    for (size_t j = 0; j < c; j++) {
      const double spread = std::exp(0.7 * std::sin(1.0 + 3.0 * static_cast<double>(i))) *
                            std::exp(0.7 * std::cos(2.0 + 5.0 * static_cast<double>(j)));
      double drift = 0;
      for (size_t k = 0; k < 3; k++) drift += (1 + weight[k]) * left[k * r + i] * right[k * c + j];
      g(i, j) = static_cast<float>(size * (spread * g(i, j) + 0.5 * drift));
    }
  }
  return g;
}

class Batch {
 public:
  // The workspace is exactly what a dry run of the optimizer asks for.
  Batch(optim::Optimizer& optimizer, int64_t rows, int64_t cols, int64_t count = 1, int64_t ld = 0,
        int threads = 2, std::string_view isa = "auto")
      : optimizer_(optimizer), pool_(threads) {
    batch.rows = rows, batch.cols = cols, batch.ld = ld ? ld : cols;
    batch.grad.resize(static_cast<size_t>(count));
    batch.param.resize(batch.grad.size());
    for (int64_t k = 0; k < count; k++) {
      param_.emplace_back(static_cast<size_t>(rows * batch.ld), NAN);
      grad_.emplace_back(param_.back());
      batch.names.push_back("matrix" + std::to_string(k));
    }
    for (const optim::StateSpec& spec : optimizer.state(rows, cols)) {
      auto& tensors = batch.state.emplace_back();
      for (int64_t k = 0; k < count; k++) {
        state_.emplace_back(static_cast<size_t>(spec.rows * spec.cols), 0.0f);
        tensors.push_back(state_.back().data());
      }
    }
    context.device = cpu_device(threads, isa);
    DryRun record;
    context.dry_run = &record;
    optimizer.step(context, batch, {.t = 1, .lr_multiplier = 1, .gradient_scale = 1});
    context.dry_run = nullptr;
    dry_run = record;
    workspace_.assign(record.workspace_bytes / sizeof(Line) + 2, Line{});
    for (Line& line : workspace_) std::fill(std::begin(line.bytes), std::end(line.bytes), '\xFF');
    context.workspace = Workspace(workspace_.data(), record.workspace_bytes);
    context.pool = &pool_;
    for (int64_t k = 0; k < count; k++) {
      batch.param[static_cast<size_t>(k)] = param_[static_cast<size_t>(k)].data();
      batch.grad[static_cast<size_t>(k)] = grad_[static_cast<size_t>(k)].data();
    }
  }
  Batch(const Batch&) = delete;

  void set_param(size_t k, const Matrix& w) { set(param_[k], w); }
  void set_grad(size_t k, const Matrix& g) { set(grad_[k], g); }
  Matrix param(size_t k) const {
    Matrix w(static_cast<size_t>(batch.rows), static_cast<size_t>(batch.cols));
    for (size_t i = 0; i < w.rows; i++) {
      for (size_t j = 0; j < w.cols; j++) w(i, j) = param_[k][i * static_cast<size_t>(batch.ld) + j];
    }
    return w;
  }
  Matrix state(std::string_view name, size_t k = 0) const {
    const auto specs = optimizer_.state(batch.rows, batch.cols);
    for (size_t i = 0; i < specs.size(); i++) {
      if (specs[i].name != name) continue;
      const float* data = batch.state[i][k];
      return {static_cast<size_t>(specs[i].rows), static_cast<size_t>(specs[i].cols),
              std::vector<double>(data, data + specs[i].rows * specs[i].cols)};
    }
    ADD_FAILURE() << "no state " << name;
    return {};
  }
  // Overwrites a state tensor, to put an optimizer where gradients would hardly take it.
  void set_state(std::string_view name, const Matrix& values, size_t k = 0) {
    const auto specs = optimizer_.state(batch.rows, batch.cols);
    for (size_t i = 0; i < specs.size(); i++) {
      if (specs[i].name == name) std::copy(values.x.begin(), values.x.end(), batch.state[i][k]);
    }
  }
  void step(int64_t t, double multiplier = 1, double scale = 1, MetricSink* metrics = nullptr) {
    optimizer_.step(context, batch,
                    {.t = t, .lr_multiplier = multiplier, .gradient_scale = scale, .metrics = metrics});
  }
  bool gaps_untouched() const {
    for (const auto& p : param_) {
      for (size_t i = 0; i < p.size(); i++) {
        if (static_cast<int64_t>(i) % batch.ld >= batch.cols && !std::isnan(p[i])) return false;
      }
    }
    return true;
  }
  bool state_is_zero() const {
    for (const auto& s : state_) {
      for (float v : s) {
        if (v != 0) return false;
      }
    }
    return true;
  }
  std::vector<std::vector<float>> bits() const {
    auto all = param_;
    all.insert(all.end(), state_.begin(), state_.end());
    return all;
  }

  optim::MatrixBatch batch;
  Context context;
  DryRun dry_run;

 private:
  struct alignas(128) Line {
    char bytes[128];
  };
  void set(std::vector<float>& where, const Matrix& values) {
    for (size_t i = 0; i < values.rows; i++) {
      for (size_t j = 0; j < values.cols; j++) {
        where[i * static_cast<size_t>(batch.ld) + j] = static_cast<float>(values(i, j));
      }
    }
  }

  optim::Optimizer& optimizer_;
  ThreadPool pool_;
  std::vector<std::vector<float>> param_, grad_;
  std::deque<std::vector<float>> state_;
  std::vector<Line> workspace_;
};

inline Matrix weights(int64_t rows, int64_t cols, uint64_t matrix = 0) {
  return {static_cast<size_t>(rows), static_cast<size_t>(cols), normals(rows * cols, 900 + matrix, 0.02)};
}

inline double relative_error(const Matrix& got, const Matrix& expected, const Matrix& start) {
  return reference::norm(got - expected) / reference::norm(expected - start);
}

// `steps` steps of a batch of two strided matrices, with a schedule and clipping, beside one reference each;
// the largest error of a final weight relative to how far it moved.
template <class Reference>
double error_after(optim::Optimizer& optimizer, const Reference& reference, int64_t rows, int64_t cols,
                   int steps = 50) {
  Batch batch(optimizer, rows, cols, 2, cols + 3);
  std::vector<Reference> references(2, reference);
  std::vector<Matrix> w = {weights(rows, cols, 0), weights(rows, cols, 1)}, start = w;
  for (size_t k = 0; k < 2; k++) batch.set_param(k, w[k]);
  for (int t = 1; t <= steps; t++) {
    const double multiplier = 1 - 0.5 * t / steps, scale = t % 3 == 1 ? 0.5 : 1;  // the seed too
    for (size_t k = 0; k < 2; k++) {
      const Matrix g = gradient(rows, cols, static_cast<uint64_t>(t), k);
      batch.set_grad(k, g);
      references[k].step(w[k], scale * g, multiplier);
    }
    batch.step(t, multiplier, scale);
  }
  EXPECT_TRUE(batch.gaps_untouched());
  return std::max(relative_error(batch.param(0), w[0], start[0]),
                  relative_error(batch.param(1), w[1], start[1]));
}

struct ShapeOf {
  int64_t rows, cols;
};
inline constexpr ShapeOf kShapes[] = {{64, 64}, {48, 192}, {192, 48}, {33, 100}};

}  // namespace kiln::tests
