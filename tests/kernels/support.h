// What the kernel tests share: guarded buffers, a runner for every instruction set and thread count,
// comparisons.
//
//   for (Isa isa : isas()) {
//     Runner runner(isa, 2);
//     Guarded<float> in = normal(rows * C, "in"), out(rows * C);
//     runner.run(kernels::some_kernel, kernels::SomeKernel{out.data(), in.data(), ..., DType::f32});
//     expect_close("out", out, expected, [&](int64_t i) { return bound of element i; });
//   }
//
// Every Guarded buffer checks its guards when it is destroyed; the runner gives a kernel exactly the
// workspace that it announced, guarded and poisoned with NaN.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "kernels/table.h"
#include "src/core/random.h"

namespace kiln::tests {

// Unit roundoff of fp32: one rounded operation errs by at most this, relatively.
inline constexpr double kUnit = 0x1p-24;

// How far a rounded sum of n terms may lie from the exact one, relative to the sum of magnitudes, in any
// order of additions: (n - 1) u to first order (Higham, "Accuracy and stability of numerical algorithms",
// section 4.2).
inline double sum_error(int64_t n) {
  return static_cast<double>(n > 1 ? n - 1 : 0) * kUnit;
}

// The instruction-set variants that this processor runs.
inline std::vector<Isa> isas() {
  std::vector<Isa> list;
  for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (isa <= best_isa()) list.push_back(isa);
  }
  return list;
}

// Exactly n elements on a 128-byte boundary (as arenas give), between guard bytes. Elements start as 0xFF
// bytes: NaN for floats, so that an element the kernel forgot to write fails the comparison.
template <class T>
class Guarded {
 public:
  explicit Guarded(int64_t n) : size_(n), bytes_(static_cast<size_t>(n) * sizeof(T)) {
    memory_ =
        static_cast<unsigned char*>(::operator new (kGuard + bytes_ + kGuard, std::align_val_t{kGuard}));
    std::memset(memory_, kPattern, kGuard + bytes_ + kGuard);
    std::memset(data(), 0xFF, bytes_);
  }
  Guarded(int64_t n, T value) : Guarded(n) { fill(value); }
  Guarded(const std::vector<T>& values) : Guarded(static_cast<int64_t>(values.size())) {  // NOLINT: implicit
    if (bytes_) std::memcpy(data(), values.data(), bytes_);
  }
  Guarded(const Guarded& other) : Guarded(other.size_) {
    if (bytes_) std::memcpy(data(), other.data(), bytes_);
  }
  Guarded(Guarded&& other) noexcept : size_(other.size_), bytes_(other.bytes_), memory_(other.memory_) {
    other.memory_ = nullptr;
  }
  Guarded& operator=(const Guarded&) = delete;
  Guarded& operator=(Guarded&&) = delete;
  ~Guarded() {
    if (!memory_) return;
    EXPECT_TRUE(intact()) << "a kernel wrote outside a buffer of " << size_ << " elements";
    ::operator delete (memory_, std::align_val_t{kGuard});
  }

  T* data() { return reinterpret_cast<T*>(memory_ + kGuard); }
  const T* data() const { return reinterpret_cast<const T*>(memory_ + kGuard); }
  int64_t size() const { return size_; }
  T& operator[](int64_t i) { return data()[i]; }
  const T& operator[](int64_t i) const { return data()[i]; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size_; }
  void fill(T value) {
    for (int64_t i = 0; i < size_; i++) data()[i] = value;
  }
  bool intact() const {
    for (size_t i = 0; i < kGuard; i++) {
      if (memory_[i] != kPattern || memory_[kGuard + bytes_ + i] != kPattern) return false;
    }
    return true;
  }
  bool same_bits(const Guarded& other) const {
    return bytes_ == other.bytes_ && std::memcmp(data(), other.data(), bytes_) == 0;
  }

 private:
  static constexpr size_t kGuard = 128;
  static constexpr unsigned char kPattern = 0xA5;
  int64_t size_;
  size_t bytes_;
  unsigned char* memory_;
};

// n draws of mean + deviation * N(0, 1), rounded to fp32; each name is a stream of its own.
inline Guarded<float> normal(int64_t n, const char* name, double deviation = 1, double mean = 0) {
  Guarded<float> values(n);
  const Random random(1234, hash_name(name));
  for (int64_t i = 0; i < n; i++) {
    values[i] = static_cast<float>(mean + deviation * random.normal(static_cast<uint64_t>(i)));
  }
  return values;
}

// n draws from {low, ..., high - 1}.
inline Guarded<int32_t> integers(int64_t n, const char* name, int32_t low, int32_t high) {
  Guarded<int32_t> values(n);
  const Random random(1234, hash_name(name));
  for (int64_t i = 0; i < n; i++) {
    values[i] = low + static_cast<int32_t>(random.uniform(static_cast<uint64_t>(i)) * (high - low));
  }
  return values;
}

inline std::vector<double> to_double(const Guarded<float>& values) {
  return {values.begin(), values.end()};
}

// Threads and a context for one instruction set; lives as long as libraries should keep what they compiled.
class Runner {
 public:
  Runner(Isa isa, int threads) : pool_(threads) {
    context_.device = cpu_device(threads, name_of(isa));
    context_.pool = &pool_;
  }

  // Asks a dry run for the workspace, gives exactly that, runs, and checks the workspace's guards.
  template <class Params>
  void run(void (*kernel)(Context&, const Params&), const Params& p) {
    DryRun record;
    context_.dry_run = &record;
    kernel(context_, p);
    context_.dry_run = nullptr;
    Guarded<unsigned char> workspace(static_cast<int64_t>(record.workspace_bytes));
    context_.workspace = Workspace(workspace.data(), record.workspace_bytes);
    kernel(context_, p);
    context_.workspace = Workspace();
  }

  Context& context() { return context_; }

 private:
  ThreadPool pool_;
  Context context_;
};

// Fails, naming the worst element, unless |actual[i] - expected[i]| <= bound(i) for all i. NaN never passes,
// unless both are NaN; equal infinities pass.
inline void expect_close(const std::string& what, const float* actual, const std::vector<double>& expected,
                         const std::function<double(int64_t)>& bound) {
  int64_t worst = -1, failures = 0;
  double worst_ratio = 0;
  for (int64_t i = 0; i < static_cast<int64_t>(expected.size()); i++) {
    const double a = actual[i], e = expected[static_cast<size_t>(i)];
    if (a == e || (std::isnan(a) && std::isnan(e))) continue;
    const double error = std::fabs(a - e), allowed = bound(i);
    if (error <= allowed) continue;
    failures++;
    const double ratio =
        std::isfinite(error) && allowed > 0 ? error / allowed : std::numeric_limits<double>::infinity();
    if (worst < 0 || ratio > worst_ratio) worst = i, worst_ratio = ratio;
  }
  if (failures == 0) return;
  ADD_FAILURE() << what << ": " << failures << " of " << expected.size()
                << " elements outside their bound; worst [" << worst << "] is " << actual[worst]
                << ", expected " << expected[static_cast<size_t>(worst)] << ", bound " << bound(worst)
                << " (error / bound = " << worst_ratio << ")";
}

inline void expect_close(const std::string& what, const Guarded<float>& actual,
                         const std::vector<double>& expected, const std::function<double(int64_t)>& bound) {
  ASSERT_EQ(actual.size(), static_cast<int64_t>(expected.size())) << what;
  expect_close(what, actual.data(), expected, bound);
}

// d f() / d x by central differences in fp64: truncation h^2 f'''/6, rounding |f| 2^-53 / h. With h = 1e-5
// and values of order one both stay below 1e-9 or so.
inline double central_difference(const std::function<double()>& f, double& x, double h = 1e-5) {
  const double at = x;
  x = at + h;
  const double above = f();
  x = at - h;
  const double below = f();
  x = at;
  return (above - below) / (2 * h);
}

}  // namespace kiln::tests
