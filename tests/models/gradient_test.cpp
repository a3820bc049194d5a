// Gradients of whole models against numeric ones: with the fixtures' parameters, of every family, and of families that do not
// exist, put together otherwise.
#include <algorithm>
#include <cmath>
#include <functional>
#include <iostream>
#include <set>

#include "models/families/list.h"
#include "src/core/error.h"
#include "tests/models/harness.h"

namespace kiln::models {
namespace {

// Directional derivatives of the mean loss f by differences, D2(h) = (f(h) - f(-h)) / 2h and, of fourth
// order, D4 = (4 D2(h) - D2(2h)) / 3. Each f carries rounding errors of at most some delta: the loss of a
// token is a difference of numbers up to the largest logit, here below 16, that 40 operations rounded, which
// adds like sqrt(40) 16 2^-24 = 6e-6 in a single token; they do not all agree in sign over 100 tokens, so
// delta = 2e-6 for the mean, to which the fixtures' losses are held against PyTorch's in fp64. D4 therefore is off
// by at most 1.5 delta / h of rounding, and by less than |D4 - D2(h)|, the truncation error of the lower order.
constexpr double kDelta = 2e-6;
struct Derivative {
  double value, error;
};
Derivative differentiate_at(const std::function<double(double)>& f, double h) {
  const double near = (f(h) - f(-h)) / (2 * h), far = (f(2 * h) - f(-2 * h)) / (4 * h);
  const double value = (4 * near - far) / 3;
  return {value, 1.5 * kDelta / h + std::abs(value - near)};
}
// Of two steps the one with the smaller error: how curved a direction is differs from model to model.
Derivative differentiate(const std::function<double(double)>& f, double h) {
  const Derivative longer = differentiate_at(f, h), shorter = differentiate_at(f, h / 4);
  return longer.error < shorter.error ? longer : shorter;
}

double mean_loss(Bench& model, const std::vector<int32_t>& tokens, const std::vector<int32_t>& targets) {
  double sum = 0;
  int64_t counted = 0;
  for (float loss : model.forward(tokens, targets, 3, 37)) sum += loss;
  for (int32_t target : targets) counted += target >= 0;
  return sum / static_cast<double>(counted);
}

// Along random directions through all parameters, and through each. tokens and targets are (3, 37).
void check_gradients(Bench& model, const std::vector<int32_t>& tokens, const std::vector<int32_t>& targets) {
  const auto counted = std::count_if(targets.begin(), targets.end(), [](int32_t t) { return t >= 0; });
  model.zero_gradients();
  model.forward_backward(tokens, targets, 3, 37, 1.0f / static_cast<float>(counted));
  std::vector<std::vector<float>> start;
  for (const Parameter& p : model.parameters().all()) start.emplace_back(p.master, p.master + p.elements());

  // A direction goes kLength far: that is where, in the directions that curve most, truncation and rounding are about
  // equal. In few dimensions less than that stays well inside the scale of a parameter.
  double worst = 0;
  const auto check = [&](const std::string& what, const auto& takes_part, uint64_t stream) {
    constexpr double kLength = 0.3, kLargest = 0.01;
    const Random random(11, stream);
    double slope = 0, squared = 0;
    uint64_t index = 0;
    std::vector<std::vector<double>> direction;
    for (const Parameter& p : model.parameters().all()) {
      std::vector<double> d(p.elements(), 0.0);
      if (takes_part(p)) {
        for (int64_t i = 0; i < p.elements(); i++) {
          d[i] = random.normal(index++);
          slope += d[i] * p.gradient[i];
          squared += static_cast<double>(p.gradient[i]) * p.gradient[i];
        }
      }
      direction.push_back(std::move(d));
    }
    const Derivative numeric = differentiate(
        [&](double step) {
          for (size_t k = 0; k < start.size(); k++) {
            Parameter& p = model.parameters().all()[k];
            for (int64_t i = 0; i < p.elements(); i++) {
              p.master[i] = static_cast<float>(start[k][i] + step * direction[k][i]);
            }
          }
          model.parameters().bump_versions();
          return mean_loss(model, tokens, targets);
        },
        std::min(kLargest, kLength / std::sqrt(static_cast<double>(index))));
    const double typical = std::sqrt(squared);  // of the slope along a random direction
    EXPECT_NEAR(slope, numeric.value, numeric.error) << what;
    EXPECT_LT(numeric.error, 0.02 * typical) << what << ": too coarse to find an error";
    worst = std::max(worst, std::abs(slope - numeric.value) / typical);
  };
  for (uint64_t stream = 0; stream < 4; stream++) {
    check(
        "everything", [](const Parameter&) { return true; }, stream);
  }
  for (size_t k = 0; k < start.size(); k++) {
    const std::string name = model.parameters().all()[k].name;
    check(
        name, [&](const Parameter& p) { return p.name == name; }, 100 + k);
  }
  std::cout << "largest difference of numeric gradients, relative to the usual slope: " << worst << "\n";
}

class GradientTest : public testing::TestWithParam<Variant> {};
INSTANTIATE_TEST_SUITE_P(Variants, GradientTest, testing::ValuesIn(kVariants), variant_name);

TEST_P(GradientTest, Numeric) {
  const SafetensorsFile file = fixture(GetParam().file());
  const auto tokens = values<int32_t>(file, "tokens"), targets = values<int32_t>(file, "targets");
  BatchShape batch = tiny_batch();
  batch.recompute = GetParam().recompute;
  Bench model(GetParam().shape(), batch, {.arena = GetParam().arena, .family = GetParam().family()});
  load_parameters(model.parameters(), file);
  double exact = 0;
  for (float loss : values<float>(file, "losses")) exact += loss;
  exact /=
      static_cast<double>(std::count_if(targets.begin(), targets.end(), [](int32_t t) { return t >= 0; }));
  EXPECT_NEAR(mean_loss(model, tokens, targets), exact, kDelta);
  check_gradients(model, tokens, targets);
}

// With an untied head and fewer heads of keys and values.
void check_gradients_of(const families::Family& family, bool recompute) {
  SCOPED_TRACE(fmt::format("{}, {}, recompute {}", family.name, family.summary, recompute));
  BatchShape batch = tiny_batch();
  batch.recompute = recompute;
  Bench model(tiny_llama(/*tied=*/false), batch, {.family = family});
  model.model->initialise(model.context, 1);
  const Random random(12, 0);  // biases and the weights of norms too
  uint64_t index = 0;
  for (Parameter& p : model.parameters().all()) {
    for (int64_t i = 0; i < p.elements(); i++)
      p.master[i] += 0.1f * static_cast<float>(random.normal(index++));
  }
  model.parameters().bump_versions();
  check_gradients(model, random_tokens(3 * 37, 67, 1), random_tokens(3 * 37, 67, 2));
}

TEST(Families, NumericGradients) {
  for (const families::Family& family : families::families()) {
    for (const bool recompute : {false, true}) check_gradients_of(family, recompute);
  }
}

TEST(Families, AreFilledIn) {
  std::set<std::string_view> names;
  for (const families::Family& family : families::families()) {
    EXPECT_TRUE(names.insert(family.name).second) << family.name;
    EXPECT_EQ(families::family_named(family.name).name, family.name);
    EXPECT_GT(family.norm_eps, 0) << family.name;
    EXPECT_GT(family.ffn(100), 0) << family.name;
    for (const char* text :
         {family.summary, family.ffn_summary, family.norm_name, family.up_name, family.down_name})
      EXPECT_GT(std::string_view(text).size(), 0u) << family.name;
  }
  EXPECT_GE(names.size(), 2u);
  EXPECT_THROW(families::family_named("mamba"), Error);
}

// Whatever the families choose can be chosen otherwise.
TEST(Families, EveryChoiceGoesWithEveryOther) {
  using namespace families;
  for (const NormKind norm : {NormKind::layer, NormKind::rms}) {
    for (const FeedForwardKind feed_forward : {FeedForwardKind::gelu, FeedForwardKind::swiglu}) {
      for (const PositionKind positions : {PositionKind::learned, PositionKind::rotary}) {
        for (const bool biases : {false, true}) {
          Family family = gpt2::kFamily;
          family.norm = norm, family.feed_forward = feed_forward, family.positions = positions,
          family.biases = biases;
          family.name = "made up";
          const std::string summary =
              fmt::format("norm {}, feed-forward {}, positions {}, biases {}", static_cast<int>(norm),
                          static_cast<int>(feed_forward), static_cast<int>(positions), biases);
          family.summary = summary.c_str();
          check_gradients_of(family, /*recompute=*/biases);
        }
      }
    }
  }
}

}  // namespace
}  // namespace kiln::models
