#include "src/train/generate.h"

#include <gtest/gtest.h>

#include <cmath>

namespace kiln::train {
namespace {

constexpr int64_t kV = 5;
const float kLogits[kV] = {0.5f, 2.0f, -1.0f, 2.0f, 1.0f};

int32_t draw(double u, double temperature, int64_t top_k) {
  int32_t scratch[kV];
  return draw_token(kLogits, kV, {.tokens = 1, .temperature = temperature, .top_k = top_k, .seed = 0}, u,
                    scratch);
}

TEST(DrawToken, ZeroTemperatureTakesTheFirstOfTheLikeliest) {
  for (double u : {0.0, 0.5, 0.999}) EXPECT_EQ(draw(u, 0, 0), 1);
}

TEST(DrawToken, FollowsTheCumulativeDistribution) {
  double weight[kV], total = 0;
  for (int i = 0; i < kV; i++) total += weight[i] = std::exp(kLogits[i] / 0.7);
  double edge = 0;
  for (int i = 0; i < kV; i++) {
    EXPECT_EQ(draw(edge / total + 1e-9, 0.7, 0), i);
    edge += weight[i];
    EXPECT_EQ(draw(edge / total - 1e-9, 0.7, 0), i);
  }
}

TEST(DrawToken, TopKKeepsOnlyTheLikeliest) {
  for (int i = 0; i < 100; i++) {
    const int32_t token = draw(i / 100.0, 1.0, 2);
    EXPECT_TRUE(token == 1 || token == 3) << token;
  }
  EXPECT_EQ(draw(0.99, 1.0, 1), 1);  // of two equal logits the lower id
}

TEST(DrawToken, HugeLogitsDoNotOverflow) {
  const float logits[3] = {1e30f, -1e30f, 0};
  int32_t scratch[3];
  EXPECT_EQ(draw_token(logits, 3, {.tokens = 1, .temperature = 0.1, .top_k = 0, .seed = 0}, 0.99, scratch),
            0);
}

}  // namespace
}  // namespace kiln::train
