// Muon, KL-Shampoo and Pro-KLShampoo in fp64, formula by formula, with dense matrices wherever that is
// plainer: the right factor's C is formed, roots are taken by eigen-decompositions, nothing is reused. Shares
// nothing with optim/ or kernels/.
#pragma once

#include <string>

#include "tests/optim/reference_linear_algebra.h"

namespace kiln::tests::reference {

inline Matrix newton_schulz(Matrix n, const std::string& set) {
  const bool tall = n.rows > n.cols;
  if (tall) n = transpose(n);
  const bool jordan = set == "jordan";
  const double steps[5][3] = {{8.156554525, -22.483292926, 15.878769915},
                              {4.042929935, -2.808917466, .500017845},
                              {3.891667802, -2.772484153, .506064818},
                              {3.285753658, -2.368129493, .464490242},
                              {2.346541326, -1.709782838, .423235512}};
  Matrix x = 1 / ((jordan ? 1.0 : 1.02) * norm(n) + 1e-7) * n;
  for (const auto& step : steps) {
    const double a = jordan ? 3.4445 : step[0], b = jordan ? -4.7750 : step[1], c = jordan ? 2.0315 : step[2];
    const Matrix gram = x * transpose(x);
    x = a * x + (b * gram + c * (gram * gram)) * x;
  }
  return tall ? transpose(x) : x;
}

// Coupled Newton-Schulz for s^(-1/2).
inline Matrix coupled_root(Matrix s) {
  const double coefficients[10][2] = {
      {5.182503604966906, -5.178098480082684},  {2.586120737395915, -.6479542005271643},
      {2.567364126726186, -.6454968804392178},  {2.520560084348265, -.6393528082067044},
      {2.410759275435182, -.6248683598710716},  {2.1883348130094173, -.5952022073798908},
      {1.8595760874873613, -.5504490972723968}, {1.589020160467417, -.5126569802066718},
      {1.5051653981684994, -.5007377068751799}, {1.5, -.5}};
  const size_t n = s.rows;
  if (n == 0) return s;
  const double size = static_cast<double>(n), ridge = 1e-6 * trace(s) / size;
  for (size_t i = 0; i < n; i++) s(i, i) += ridge;
  std::vector<double> d(n, 0.0);
  double bound = 0;
  for (size_t i = 0; i < n; i++) {
    for (size_t j = 0; j < n; j++) d[i] += std::abs(s(i, j));
  }
  for (size_t i = 0; i < n; i++) {
    double sum = 0;
    for (size_t j = 0; j < n; j++) sum += std::abs(s(i, j)) * d[j];
    bound = std::max(bound, sum / d[i]);
  }
  const double mean = trace(s) / size,
               deviation = std::sqrt(std::max(0.0, norm(s) * norm(s) / size - mean * mean));
  const double L = 1.01 * std::min(bound, mean + deviation * std::sqrt(size - 1));
  Matrix y = 1 / L * s, z = identity(n);
  for (const auto& [a, b] : coefficients) {
    const Matrix t = identity(n, a) + b * (z * y);
    y = y * t;
    z = t * z;
  }
  return 1 / std::sqrt(L) * z;
}

struct Muon {
  double lr = 0.01, mu = 0.95, wd = 0.1;
  bool nesterov = true;
  std::string scale = "match_rms", set = "jordan";
  Matrix m = {};

  Matrix direction(const Matrix& g) {
    if (m.x.empty()) m = Matrix(g.rows, g.cols);
    m = mu * m + (1 - mu) * g;
    const Matrix n = nesterov ? (1 - mu) * g + mu * m : m;
    const double rows = static_cast<double>(g.rows), cols = static_cast<double>(g.cols);
    const double factor =
        scale == "match_rms" ? 0.2 * std::sqrt(std::max(rows, cols)) : std::sqrt(std::max(1.0, rows / cols));
    return factor * newton_schulz(n, set);
  }
  void step(Matrix& w, const Matrix& g, double multiplier = 1) {
    const double rate = lr * multiplier;
    const Matrix d = direction(g);
    w = (1 - rate * wd) * w - rate * d;
  }
};

struct KlShampoo {
  double lr = 0.005, b1 = 0.95, b2 = 0.95, eps = 1e-8, wd = 0.1;
  int refresh = 10;
  std::string root = "eigenbasis", init = "gradient";
  // Identity 1: both factors start as rms(G_1) I with Q_a = I, and S_b^(-1/2) comes from an
  // eigen-decomposition of the current S_b in steps 2 and 3.
  bool exact_right = false;
  int t = 0;
  Matrix m = {}, sa = {}, sb = {}, qa = {}, qb = {};
  std::vector<double> la = {}, lb = {};

  void seed(const Matrix& g) {
    const double rows = static_cast<double>(g.rows), cols = static_cast<double>(g.cols);
    m = Matrix(g.rows, g.cols);
    sa = (1 - b2) / cols * (g * transpose(g));
    sb = (1 - b2) / rows * (transpose(g) * g);
    const Bases bases = seed_bases(g, g.cols);
    qa = bases.left, qb = bases.right;
    const double level = init == "gradient" ? rms(g) : 0.1;
    la.assign(g.rows, level), lb.assign(g.cols, level);
    if (root == "newton_schulz" || exact_right) sa = identity(g.rows, level), sb = identity(g.cols, level);
    if (exact_right) qa = identity(g.rows);
  }

  Matrix direction(const Matrix& g) {  // steps 1 to 5
    m = b1 * m + (1 - b1) * g;
    if (root == "newton_schulz") return direction_by_roots(g);
    if (exact_right) return direction_exact(g);
    const auto a = floored(la), b = floored(lb);
    Matrix n = transpose(qa) * m * qb;
    for (size_t i = 0; i < n.rows; i++) {
      for (size_t j = 0; j < n.cols; j++) n(i, j) /= std::sqrt(a[i] * b[j]) + eps;
    }
    const Matrix d = qa * n * transpose(qb);

    const double rows = static_cast<double>(g.rows), cols = static_cast<double>(g.cols);
    const Matrix k = transpose(qa) * g * qb;
    Matrix right = g * qb, left = transpose(qa) * g;
    for (size_t i = 0; i < g.rows; i++) {
      for (size_t j = 0; j < g.cols; j++) {
        right(i, j) /= std::sqrt(b[j]);
        left(i, j) /= std::sqrt(a[i]);
      }
    }
    sa = b2 * sa + (1 - b2) / cols * (right * transpose(right));
    sb = b2 * sb + (1 - b2) / rows * (transpose(left) * left);
    for (double& l : la) l *= b2;
    for (double& l : lb) l *= b2;
    for (size_t i = 0; i < g.rows; i++) {
      for (size_t j = 0; j < g.cols; j++) {
        la[i] += (1 - b2) / cols * k(i, j) * k(i, j) / b[j];
        lb[j] += (1 - b2) / rows * k(i, j) * k(i, j) / a[i];
      }
    }
    if (init == "constant") clamp(la), clamp(lb);
    if (t % refresh == 0) qa = qr(sa * qa), qb = qr(sb * qb);
    return d;
  }

  Matrix direction_by_roots(const Matrix& g) {
    const double rows = static_cast<double>(g.rows), cols = static_cast<double>(g.cols);
    const Matrix right = g * coupled_root(sb), left = coupled_root(sa) * g;
    sa = b2 * sa + (1 - b2) / cols * (right * transpose(right));
    sb = b2 * sb + (1 - b2) / rows * (transpose(left) * left);
    return coupled_root(sa) * m * coupled_root(sb);
  }

  Matrix direction_exact(const Matrix& g) {
    const double rows = static_cast<double>(g.rows), cols = static_cast<double>(g.cols);
    const Spectrum right = eigen(sb);
    const Matrix root_b = power(right.vectors, floored(right.values), -0.5),
                 root_a = power(qa, floored(la), -0.5);
    const Matrix d = root_a * m * root_b;
    const Matrix h = g * root_b, delta = 1 / cols * (h * transpose(h)), rotated = transpose(qa) * delta * qa;
    const Matrix z = root_a * g;
    sa = b2 * sa + (1 - b2) * delta;
    for (size_t i = 0; i < la.size(); i++) la[i] = b2 * la[i] + (1 - b2) * rotated(i, i);
    sb = b2 * sb + (1 - b2) / rows * (transpose(z) * z);
    if (t % refresh == 0) qa = qr(sa * qa);
    return d;
  }

  void step(Matrix& w, const Matrix& g, double multiplier = 1) {
    t++;
    if (m.x.empty()) {
      if (norm(g) > 0) seed(g);
      return;
    }
    const double rate = lr * multiplier;
    w = w - rate * direction(g);
    w = w - rate * wd * w;
  }

 private:
  static void clamp(std::vector<double>& l) {
    const double limit = std::max(10.0, std::min(static_cast<double>(l.size()), 4000.0));
    for (double& v : l) v = std::max(v, 1 / (limit * limit));
  }
};

struct ProKlShampoo {
  double lr = 0.005, b1 = 0.95, b2 = 0.95, wd = 0.1;
  size_t rank = 128;
  int refresh = 10, tracker_every = 1;
  std::string root = "eigenbasis", orientation = "larger", complement = "polar_left",
              complement_scale = "matched", tracker = "orthogonal", set = "polar_express";
  double complement_factor = 0;
  int t = 0, skipped = 0;
  Matrix m = {}, sa = {}, qa = {}, u = {}, s = {}, y = {};  // of the oriented matrix
  std::vector<double> la = {};
  double mu = 0;
  Matrix d1 = {}, d2 = {};  // of the last step

  bool flips(const Matrix& w) const { return orientation == "larger" && w.rows > w.cols; }

  void step(Matrix& w, const Matrix& g, double multiplier = 1) {
    t++;
    const Matrix oriented = flips(w) ? transpose(g) : g;
    if (m.x.empty()) {
      if (norm(g) > 0) seed(oriented);
      return;
    }
    m = b1 * m + (1 - b1) * oriented;
    Matrix d;
    if (root == "eigenbasis") {
      const Roots old = roots();
      d = direction(old);
      statistics(oriented, old);
    } else {
      statistics(oriented, roots());
      d = direction(roots());
    }
    const double rate = lr * multiplier;
    w = w - rate * (flips(w) ? transpose(d) : d);
    w = w - rate * wd * w;
  }

  void seed(const Matrix& g) {
    const double level = rms(g);
    const size_t r = std::min(rank, g.cols);
    m = Matrix(g.rows, g.cols);
    sa = identity(g.rows, level), qa = identity(g.rows), la.assign(g.rows, level);
    u = seed_bases(g, r).right, s = identity(r, level), mu = level;
    y = u * s;
  }

  struct Roots {
    Matrix left, core;  // S_a^(-1/2), S^(-1/2)
    double tail;        // max(mu, floor)
  };
  Roots roots() const {
    const double tail = static_cast<double>(u.rows - u.cols);
    const double mean = (trace(s) + tail * mu) / static_cast<double>(u.rows);
    Roots out{{}, {}, std::max(mu, 1e-10 * mean)};
    if (root == "eigenbasis") {
      const Spectrum core = eigen(s);
      out.left = power(qa, floored(la), -0.5);
      out.core = power(core.vectors, floored(core.values, mean), -0.5);
    } else {
      out.left = coupled_root(sa), out.core = coupled_root(s);
    }
    return out;
  }

  Matrix outside(const Matrix& x) const { return x - (x * u) * transpose(u); }

  Matrix direction(const Roots& by) {
    const Matrix x = by.left * m, x_outside = outside(x);
    d1 = x * u * by.core * transpose(u);
    d2 = Matrix(m.rows, m.cols);
    if (u.cols == u.rows || norm(x_outside) <= 1e-5 * norm(x)) {
      skipped++;
      return d1;
    }
    const Matrix isotropic = 1 / std::sqrt(by.tail) * x_outside;
    if (complement == "isotropic") {
      d2 = isotropic;
    } else {
      d2 = outside(newton_schulz(complement == "polar" ? outside(m) : x_outside, set));
      const double size = std::sqrt(static_cast<double>(std::max(u.rows - u.cols, m.rows)));
      double c = complement_factor * size;
      if (complement_scale == "matched") c = std::sqrt((1 - b1) / (1 + b1)) * size;
      if (complement_scale == "graft") c = norm(isotropic) / norm(d2);
      d2 = c * d2;
    }
    return d1 + d2;
  }

  void statistics(const Matrix& g, const Roots& by) {
    const double rows = static_cast<double>(g.rows), cols = static_cast<double>(g.cols);
    const size_t n = u.rows, r = u.cols;
    const double rest = static_cast<double>(n - r);
    // left
    const Matrix inside = g * u * by.core,
                 out = r < n ? 1 / std::sqrt(by.tail) * outside(g) : Matrix(g.rows, g.cols);
    const Matrix delta = 1 / cols * (inside * transpose(inside) + out * transpose(out));
    const Matrix whitened = by.left * g;  // with the old S_a
    const Matrix rotated = transpose(qa) * delta * qa;
    sa = b2 * sa + (1 - b2) * delta;
    for (size_t i = 0; i < la.size(); i++) la[i] = b2 * la[i] + (1 - b2) * rotated(i, i);
    // tracker
    const Matrix c = 1 / rows * (transpose(whitened) * whitened);
    const bool due = t % tracker_every == 0;
    const Matrix inverse = by.core * by.core;
    y = b2 * y + (1 - b2) * (c * u);
    if (due && r > 0) {
      const Matrix span = tracker == "accumulate" ? y * inverse : b2 * u + (1 - b2) * (c * u * inverse);
      const Matrix next = qr(span), b = transpose(next) * u;
      const Matrix turned = b * s * transpose(b) + mu * (identity(r) - b * transpose(b));
      if (r < n) mu += (trace(s) - trace(turned)) / rest;
      s = turned, u = next;
    }
    const Matrix z = whitened * u;
    s = b2 * s + (1 - b2) / rows * (transpose(z) * z);
    if (r < n)
      mu = b2 * mu + (1 - b2) * (norm(whitened) * norm(whitened) - norm(z) * norm(z)) / (rows * rest);
    if (due) y = u * s;
    if (root == "eigenbasis" && t % refresh == 0) qa = qr(sa * qa);
  }
};

}  // namespace kiln::tests::reference
