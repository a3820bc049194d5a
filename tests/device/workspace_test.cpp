#include "src/device/workspace.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace kiln {
namespace {

struct Buffer {
  alignas(Plan::kAlignment) char bytes[8 * Plan::kAlignment];
};

TEST(Workspace, TakesAlignedPiecesThatDoNotOverlap) {
  Buffer memory;
  Workspace workspace(memory.bytes, sizeof memory.bytes);
  EXPECT_EQ(workspace.bytes(), sizeof memory.bytes);
  Workspace::Scope scope(workspace);
  char* a = scope.take<char>(1);
  double* b = scope.take<double>(17);  // 136 bytes: two alignment units
  float* c = scope.take<float>(32);    // exactly one
  EXPECT_EQ(a, memory.bytes);
  EXPECT_EQ(reinterpret_cast<char*>(b), memory.bytes + Plan::kAlignment);
  EXPECT_EQ(reinterpret_cast<char*>(c), memory.bytes + 3 * Plan::kAlignment);
}

TEST(Workspace, BytesForIsWhatTakeTakes) {
  static_assert(Workspace::bytes_for<float>(0) == 0);
  static_assert(Workspace::bytes_for<float>(1) == Plan::kAlignment);
  static_assert(Workspace::bytes_for<float>(32) == Plan::kAlignment);
  static_assert(Workspace::bytes_for<float>(33) == 2 * Plan::kAlignment);
  for (int64_t count : {0, 1, 31, 32, 33, 64, 100}) {
    Buffer memory;
    const size_t bytes = Workspace::bytes_for<float>(count) + Workspace::bytes_for<double>(count);
    Workspace enough(memory.bytes, bytes);
    Workspace::Scope scope(enough);
    EXPECT_NO_THROW(scope.take<float>(count));
    EXPECT_NO_THROW(scope.take<double>(count));
    EXPECT_THROW(scope.take<char>(1), Error);
    if (bytes == 0) continue;
    Workspace short_of_one(memory.bytes, bytes - 1);
    Workspace::Scope other(short_of_one);
    EXPECT_NO_THROW(other.take<float>(count));
    EXPECT_THROW(other.take<double>(count), Error);
  }
}

TEST(Workspace, ScopesGiveBackWhatTheyTook) {
  Buffer memory;
  Workspace workspace(memory.bytes, sizeof memory.bytes);
  Workspace::Scope outer(workspace);
  char* first = outer.take<char>(100);
  char* inside = nullptr;
  {
    Workspace::Scope inner(workspace);
    inside = inner.take<char>(7 * static_cast<int64_t>(Plan::kAlignment));
    EXPECT_THROW(inner.take<char>(1), Error);
  }
  EXPECT_EQ(outer.take<char>(1), inside);
  EXPECT_EQ(inside, first + Plan::kAlignment);
}

TEST(Workspace, GivesBackAlsoWhenAKernelThrows) {
  Buffer memory;
  Workspace workspace(memory.bytes, sizeof memory.bytes);
  for (int round = 0; round < 3; round++) {
    EXPECT_THROW(
        {
          Workspace::Scope scope(workspace);
          scope.take<char>(static_cast<int64_t>(sizeof memory.bytes));
          scope.take<char>(1);
        },
        Error);
  }
}

TEST(Workspace, EmptyOneGivesNothing) {
  Workspace workspace;
  Workspace::Scope scope(workspace);
  EXPECT_NO_THROW(scope.take<float>(0));
  EXPECT_THROW(scope.take<float>(1), Error);
}

}  // namespace
}  // namespace kiln
