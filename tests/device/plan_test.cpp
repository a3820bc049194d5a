// The layout of planned memory, and arenas that hold it.
#include "src/device/plan.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "src/core/error.h"
#include "src/device/cuda.h"
#include "src/core/random.h"

namespace kiln {
namespace {

bool meet(const Lifetime& a, const Lifetime& b) {
  return a.first <= b.last && b.first <= a.last;
}

size_t rounded(size_t bytes) {
  return (bytes + Plan::kAlignment - 1) / Plan::kAlignment * Plan::kAlignment;
}

// Random sizes (some of them zero) and lifetimes in every category.
Plan random_plan(int entries, uint64_t seed) {
  Plan plan;
  const Random random(seed, hash_name("plan"));
  for (int i = 0; i < entries; i++) {
    const auto words = random.block(static_cast<uint64_t>(i));
    const size_t bytes = words[0] % 8 == 0 ? 0 : words[0] % 5000;
    Lifetime lifetime;
    if (words[1] % 4 != 0) {
      lifetime.first = static_cast<int>(words[2] % 50);
      lifetime.last = lifetime.first + static_cast<int>(words[3] % 10);
    }
    plan.add(fmt::format("buffer {}", i), static_cast<Category>(words[1] / 4 % kCategories), bytes, lifetime);
  }
  return plan;
}

// What no packing of a category can go below: the bytes alive at its busiest tick.
size_t peak(const Plan& plan, Category category) {
  size_t most = 0;
  for (const PlanEntry& at : plan.entries()) {
    size_t alive = 0;
    for (const PlanEntry& e : plan.entries()) {
      if (e.category == category && e.lifetime.first <= at.lifetime.first &&
          at.lifetime.first <= e.lifetime.last) {
        alive += rounded(e.bytes);
      }
    }
    most = std::max(most, alive);
  }
  return most;
}

TEST(PlanLayout, BuffersWhoseLifetimesMeetNeverOverlap) {
  for (uint64_t seed = 0; seed < 20; seed++) {
    const Plan plan = random_plan(120, seed);
    const auto& entries = plan.entries();
    const Plan::Layout layout = plan.layout();
    ASSERT_EQ(layout.offsets.size(), entries.size());
    for (size_t i = 0; i < entries.size(); i++) {
      EXPECT_EQ(layout.offsets[i] % Plan::kAlignment, 0u);
      EXPECT_LE(layout.offsets[i] + entries[i].bytes, layout.total_bytes);
      for (size_t j = 0; j < i; j++) {
        if (entries[i].bytes == 0 || entries[j].bytes == 0) continue;
        const bool overlap = layout.offsets[i] < layout.offsets[j] + entries[j].bytes &&
                             layout.offsets[j] < layout.offsets[i] + entries[i].bytes;
        const bool may =
            entries[i].category == entries[j].category && !meet(entries[i].lifetime, entries[j].lifetime);
        EXPECT_TRUE(may || !overlap) << "seed " << seed << ": " << entries[i].name << " and "
                                     << entries[j].name;
      }
    }
  }
}

TEST(PlanLayout, CategoriesFollowEachOtherAndAddUp) {
  for (uint64_t seed = 0; seed < 20; seed++) {
    const Plan plan = random_plan(120, seed);
    const Plan::Layout layout = plan.layout();
    size_t begin = 0;
    for (int c = 0; c < kCategories; c++) {
      const size_t end = begin + layout.category_bytes[c];
      size_t used = 0;
      for (size_t i = 0; i < plan.entries().size(); i++) {
        if (plan.entries()[i].category != static_cast<Category>(c)) continue;
        EXPECT_GE(layout.offsets[i], begin);
        EXPECT_LE(layout.offsets[i] + plan.entries()[i].bytes, end);
        used = std::max(used, layout.offsets[i] + rounded(plan.entries()[i].bytes) - begin);
      }
      EXPECT_EQ(layout.category_bytes[c], used) << "no more than the highest buffer needs";
      EXPECT_GE(layout.category_bytes[c], peak(plan, static_cast<Category>(c)));
      begin = end;
    }
    EXPECT_EQ(layout.total_bytes, begin);
  }
}

TEST(PlanLayout, BuffersOfDifferentTimesShareMemory) {
  Plan plan;
  for (int tick = 0; tick < 10; tick++) plan.add("scratch", Category::activations, 1000, {tick, tick});
  plan.add("kept", Category::activations, 1000);
  EXPECT_EQ(plan.layout().total_bytes, 2 * rounded(1000));
}

// A forward pass keeps what the backward pass wants in reverse: nested lifetimes pack without loss.
TEST(PlanLayout, NestedLifetimesPackToTheirPeak) {
  Plan plan;
  for (int layer = 0; layer < 12; layer++) plan.add("kept", Category::activations, 4096, {layer, 23 - layer});
  for (int tick = 0; tick < 24; tick++) plan.add("scratch", Category::activations, 512, {tick, tick});
  EXPECT_EQ(plan.layout().total_bytes, peak(plan, Category::activations));
}

// Placed first, the small ones would leave no room for the large one between them.
TEST(PlanLayout, LargeBuffersArePlacedFirst) {
  Plan plan;
  plan.add("early", Category::activations, 128, {0, 0});
  plan.add("throughout", Category::activations, 128, {0, 1});
  plan.add("large", Category::activations, 12800, {1, 1});
  EXPECT_EQ(plan.layout().total_bytes, peak(plan, Category::activations));
}

TEST(PlanLayout, IsTheSameEveryTime) {
  const Plan a = random_plan(60, 3), b = random_plan(60, 3);
  EXPECT_EQ(a.layout().offsets, b.layout().offsets);
  EXPECT_EQ(a.layout().offsets, a.layout().offsets);
}

TEST(PlanLayout, OfNothingIsNothing) {
  Plan plan;
  EXPECT_EQ(plan.layout().total_bytes, 0u);
  const Arena arena(plan, ArenaMode::slab, Device{});
  EXPECT_EQ(arena.allocated_bytes(), 0u);
}

TEST(PlanLayout, RefusesALifetimeThatEndsBeforeItBegins) {
  Plan plan;
  EXPECT_THROW(plan.add("backwards", Category::activations, 1, {3, 2}), Error);
}

TEST(PlanDescription, NamesCategoriesAndTotal) {
  Plan plan;
  plan.add("weights", Category::parameters, 3 << 20);
  plan.add("m", Category::optimizer_state, 1 << 20);
  EXPECT_EQ(bytes_text(9999 * (size_t{1} << 20)), "9999.00 MiB");
  EXPECT_EQ(bytes_text(size_t{10'240} << 20), "10.00 GiB");
  EXPECT_EQ(bytes_text(size_t{20'000} << 40), "19.53 PiB");
  const std::string text = describe(plan.layout());
  EXPECT_NE(text.find("parameters             3.00 MiB"), std::string::npos) << text;
  EXPECT_NE(text.find("optimizer state        1.00 MiB"), std::string::npos) << text;
  EXPECT_NE(text.find("total                  4.00 MiB"), std::string::npos) << text;
  EXPECT_EQ(text.find("gradients"), std::string::npos) << "empty categories are left out\n" << text;
}

TEST(Arena, SlabFollowsTheLayout) {
  const Plan plan = random_plan(60, 5);
  const Plan::Layout layout = plan.layout();
  const Arena arena(plan, ArenaMode::slab, Device{});
  EXPECT_EQ(arena.allocated_bytes(), layout.total_bytes);
  const char* base = nullptr;
  for (size_t i = 0; i < plan.entries().size(); i++) {
    const char* p = arena.at<char>(static_cast<BufferId>(i));
    if (plan.entries()[i].bytes == 0) {
      EXPECT_EQ(p, nullptr);
      continue;
    }
    if (!base) base = p - layout.offsets[i];
    EXPECT_EQ(p, base + layout.offsets[i]);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % Plan::kAlignment, 0u);
  }
}

// Each buffer its own allocation of exactly its size: nothing shared, whatever the lifetimes.
TEST(Arena, DiscreteBuffersShareNothing) {
  const Plan plan = random_plan(60, 5);
  const auto& entries = plan.entries();
  const Arena arena(plan, ArenaMode::discrete, Device{});
  size_t sum = 0;
  for (size_t i = 0; i < entries.size(); i++) {
    unsigned char* p = arena.at<unsigned char>(static_cast<BufferId>(i));
    sum += entries[i].bytes;
    EXPECT_EQ(p == nullptr, entries[i].bytes == 0);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % Plan::kAlignment, 0u);
    if (p) std::memset(p, static_cast<int>(i + 1), entries[i].bytes);
  }
  EXPECT_EQ(arena.allocated_bytes(), sum);
  for (size_t i = 0; i < entries.size(); i++) {
    const unsigned char* p = arena.at<unsigned char>(static_cast<BufferId>(i));
    for (size_t k = 0; k < entries[i].bytes; k++) ASSERT_EQ(p[k], i + 1) << entries[i].name;
  }
}

TEST(Arena, StartsAsZeros) {
  for (ArenaMode mode : {ArenaMode::slab, ArenaMode::discrete}) {
    const Plan plan = random_plan(30, 7);
    const Arena arena(plan, mode, Device{});
    for (size_t i = 0; i < plan.entries().size(); i++) {
      const char* p = arena.at<char>(static_cast<BufferId>(i));
      for (size_t k = 0; k < plan.entries()[i].bytes; k++) ASSERT_EQ(p[k], 0);
    }
  }
}

TEST(Arena, RefusesMoreThanTheSystemHasWithThePlan) {
  Plan plan;
  plan.add("small", Category::parameters,
           4096);  // allocated before the refusal in discrete mode, and given back
  plan.add("huge", Category::activations, size_t{1} << 60);
  std::vector<ArenaMode> modes{ArenaMode::slab};
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  modes.push_back(ArenaMode::discrete);  // sanitizers end the program instead of refusing
#endif
  for (ArenaMode mode : modes) {
    try {
      const Arena arena(plan, mode, Device{});
      FAIL() << "a memory of 2^60 bytes was granted";
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("out of memory"), std::string::npos);
      EXPECT_NE(std::string(e.what()).find("activations"), std::string::npos);
      EXPECT_NE(std::string(e.what()).find("total"), std::string::npos);
      EXPECT_NE(e.hint().find("train.micro_batch"), std::string::npos);
    }
  }
}

TEST(Arena, RefusesADeviceThatIsNotThere) {
  if (cuda_obstacle().sentence.empty()) GTEST_SKIP() << "there is a GPU";
  Device device;
  device.kind = DeviceKind::cuda;
  EXPECT_THROW(Arena(Plan{}, ArenaMode::slab, device), Error);
}

}  // namespace
}  // namespace kiln
