#include "tests/cuda/support.h"
#include "tests/kernels/reference_classifier.h"

namespace kiln::tests::classifier_test {
namespace {

struct Case {
  const char* name;
  int64_t rows, V, Vp, ld;
  double deviation, mean;  // of the logits
  int64_t offset = 0;      // elements that logits begin after a 16-byte boundary
};

// Ragged widths, padding, rows further apart than they are wide, rows that vectors do not fit, more columns than a block
// takes at once, logits far from zero and far from each other.
constexpr Case kCases[] = {{"one", 3, 1, 1, 1, 1, 0},
                           {"two", 5, 2, 3, 4, 1, 0},
                           {"seven", 7, 7, 16, 16, 3, 0},
                           {"sixteen", 1, 16, 16, 16, 3, 0},
                           {"seventeen", 9, 17, 17, 20, 3, 0},
                           {"prime", 5, 97, 128, 131, 3, 0},
                           {"bytes", 12, 257, 384, 384, 3, 0},
                           {"askew", 3, 257, 384, 384, 3, 0, 1},
                           {"blocks", 3, 5003, 5008, 5016, 5, 0},
                           {"unaligned blocks", 2, 5003, 5008, 5011, 5, 0},
                           {"two blocks", 2, 4096, 4096, 4096, 1, 0},
                           {"wide padding", 2, 70, 1300, 1304, 3, 0},
                           {"high", 3, 1031, 1040, 1040, 1, 1e4},
                           {"low", 3, 1031, 1040, 1040, 1, -1e4},
                           {"wide apart", 7, 1031, 1040, 1040, 1e4, 0}};
constexpr float kScale = 0.37f;
constexpr float kPadding = 0x1p100f;  // would dominate every sum if it took part

std::vector<float> logits_of(const Case& c, DType dtype) {
  auto logits = gpu_values(c.rows * c.ld, c.name, dtype, c.deviation, c.mean);
  for (int64_t i = 0; i < c.rows; i++) {
    for (int64_t j = c.V; j < c.ld; j++) logits[static_cast<size_t>(i * c.ld + j)] = kPadding;
  }
  return logits;
}

// Every third row is to be ignored.
std::vector<int32_t> targets_of(const Case& c) {
  const auto drawn = integers(c.rows, c.name, 0, static_cast<int32_t>(c.V));
  std::vector<int32_t> targets(drawn.begin(), drawn.end());
  for (size_t i = 1; i < targets.size(); i += 3) targets[i] = -1;
  if (c.rows > 2) targets[2] = static_cast<int32_t>(c.V - 1);
  return targets;
}

struct Result {
  std::vector<float> logits, losses;
};

Result run(Gpu& gpu, const Case& c, DType dtype, bool write_gradient) {
  const Tensor logits(gpu, dtype, logits_of(c, dtype), c.offset), losses(gpu, DType::f32, c.rows);
  const DeviceArray<int32_t> targets(gpu, targets_of(c));
  gpu.run(kernels::softmax_cross_entropy,
          kernels::SoftmaxCrossEntropy{logits.data(), static_cast<float*>(losses.data()), targets.data(),
                                       c.rows, c.V, c.Vp, c.ld, kScale, write_gradient, dtype});
  return {logits.read(gpu), losses.read(gpu)};
}

// Relative error of sum_j exp(x_j - max). A term: its exponential errs by 2 ulp, 4 u at most, and by its rounded
// argument, u |x_j - m| for the maximum m so far. Whenever the maximum rises from m to m', the sum so far is multiplied
// by exp(m - m'): again 4 u, u (m' - m), and a rounded product; all arguments of one term add up to max - x_j. There are
// at most as many such steps as vectors a thread has (or as the row has elements), and 5 + 15 when sums are merged. In
// any order V terms make V - 1 rounded sums, of which a term meets those of its thread and 20 more. Terms below 2^-125
// count as zero.
double sum_relative_error(const std::vector<double>& row, const std::vector<double>& p) {
  const double max = *std::max_element(row.begin(), row.end());
  double spread = 0;
  for (size_t j = 0; j < row.size(); j++) spread += p[j] * (max - row[j]);
  const auto V = static_cast<int64_t>(row.size());
  const double of_a_thread = static_cast<double>((V + 511) / 512 + 1);
  return (4 + spread + 25) * kUnit + of_a_thread * 6 * kUnit + 20 * 6 * kUnit +
         static_cast<double>(V) * 0x1p-125;
}

TEST(CudaClassifier, MatchesReference) {
  Gpu gpu;
  for (DType dtype : kBothTypes) {
    for (const Case& c : kCases) {
      SCOPED_TRACE(fmt::format("{} {}", name_of(dtype), c.name));
      const auto logits = logits_of(c, dtype);
      const auto targets = targets_of(c);
      const Result r = run(gpu, c, dtype, true);
      for (int64_t i = 0; i < c.rows; i++) {
        const float* gradient = r.logits.data() + i * c.ld;
        const int32_t target = targets[static_cast<size_t>(i)];
        const float actual_loss = r.losses[static_cast<size_t>(i)];
        for (int64_t j = c.V; j < c.Vp; j++) ASSERT_EQ(gradient[j], 0.0f) << "padding, row " << i;
        for (int64_t j = c.Vp; j < c.ld; j++) ASSERT_EQ(gradient[j], kPadding) << "between rows, row " << i;
        if (target < 0) {
          ASSERT_EQ(actual_loss, 0.0f);
          for (int64_t j = 0; j < c.V; j++) ASSERT_EQ(gradient[j], 0.0f) << "ignored row " << i;
          continue;
        }
        const std::vector<double> row(logits.begin() + i * c.ld, logits.begin() + i * c.ld + c.V);
        const auto p = reference::softmax(row);
        const double error = sum_relative_error(row, p), max = *std::max_element(row.begin(), row.end());
        // log(sum (1 + error)), whose logarithm errs by 1 ulp, the rounded difference to the target and a rounded sum.
        const double loss = reference::cross_entropy(row, target),
                     distance_of_target = max - row[static_cast<size_t>(target)];
        const double log_sum = loss - distance_of_target;
        ASSERT_NEAR(static_cast<double>(actual_loss), loss,
                    error + kUnit * (2 * std::fabs(log_sum) + distance_of_target + std::fabs(loss)))
            << "row " << i;
        // scale p: the exponential, the sum, a rounded factor, a rounded product; the target's rounded difference.
        auto expected = reference::cross_entropy_gradient(row, target);
        for (double& d : expected) d *= static_cast<double>(kScale);
        const std::vector<float> actual(gradient, gradient + c.V);
        expect_close("gradient", actual, expected, dtype, [&](int64_t j) {
          const double pj = p[static_cast<size_t>(j)], distance = max - row[static_cast<size_t>(j)];
          const double relative = (4 + distance + 2) * kUnit + error;
          return static_cast<double>(kScale) * (pj * relative + (j == target ? kUnit : 0) + 0x1p-125);
        });
      }
    }
  }
}

TEST(CudaClassifier, WithoutGradientLeavesLogitsAlone) {
  Gpu gpu;
  for (DType dtype : kBothTypes) {
    for (const Case& c : kCases) {
      const Result with = run(gpu, c, dtype, true), without = run(gpu, c, dtype, false);
      EXPECT_EQ(without.logits, logits_of(c, dtype)) << name_of(dtype) << " " << c.name;
      EXPECT_EQ(without.losses, with.losses) << name_of(dtype) << " " << c.name;
    }
  }
}

// A broken row must show: NaN among the logits, anywhere, makes the loss and the whole gradient NaN. Minus infinity is a
// probability of zero. Rows of 97 columns: one by one, and as 24 vectors of four or 12 of eight with one column over.
TEST(CudaClassifier, KeepsNaNAndTakesMinusInfinity) {
  constexpr int64_t V = 97;
  Gpu gpu;
  const DeviceArray<int32_t> target(gpu, std::vector<int32_t>{5});
  for (const auto& [dtype, ld] : {std::pair<DType, int64_t>{DType::f32, 97},
                                  {DType::f32, 100},
                                  {DType::bf16, 97},
                                  {DType::bf16, 104}}) {
    SCOPED_TRACE(fmt::format("{} ld={}", name_of(dtype), ld));
    const auto run_row = [&, dtype = dtype, ld = ld](std::vector<float> row) -> Result {
      row.resize(static_cast<size_t>(ld), kPadding);
      const Tensor logits(gpu, dtype, row), loss(gpu, DType::f32, 1);
      gpu.run(kernels::softmax_cross_entropy,
              kernels::SoftmaxCrossEntropy{logits.data(), static_cast<float*>(loss.data()), target.data(), 1,
                                           V, V, ld, kScale, true, dtype});
      Result r{logits.read(gpu), loss.read(gpu)};
      r.logits.resize(V);
      return r;
    };
    for (size_t at : {0, 1, 4, 5, 7, 8, 15, 16, 95, 96}) {
      auto row = gpu_values(V, "logits", dtype);
      row[at] = std::nanf("");
      const Result r = run_row(row);
      EXPECT_TRUE(std::isnan(r.losses[0])) << "NaN at " << at;
      for (float d : r.logits) ASSERT_TRUE(std::isnan(d)) << "NaN at " << at;
    }
    constexpr float kMinus = -std::numeric_limits<float>::infinity();
    std::vector<float> row(V, kMinus);
    row[5] = 3;
    Result r = run_row(row);
    EXPECT_EQ(r.losses[0], 0.0f);
    EXPECT_EQ(r.logits, std::vector<float>(V, 0.0f));
    row[96] = 3;
    r = run_row(row);
    std::vector<float> half(V, 0.0f);
    half[5] = -kScale / 2, half[96] = kScale / 2;
    EXPECT_EQ(r.logits, rounded(half, dtype));
    EXPECT_NEAR(r.losses[0], std::log(2.0), 2 * kUnit);
  }
}

}  // namespace
}  // namespace kiln::tests::classifier_test
