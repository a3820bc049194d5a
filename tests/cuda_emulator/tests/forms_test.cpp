// After all tests of instructions: did every form that the emulator accepts stand in a kernel that one of them ran? Checked
// where nothing was left out (no --gtest_filter).
#include <gtest/gtest.h>

#include <cstdio>

#include "tests/cuda_emulator/forms.h"
#include "tests/cuda_emulator/tests/ptx_harness.h"

namespace kiln::emulator::testing {

namespace {

class EveryForm : public ::testing::Environment {
  void TearDown() override {
    const auto* all = ::testing::UnitTest::GetInstance();
    if (all->test_to_run_count() < all->total_test_count()) {
      std::puts("not all tests ran: whether they have every form is not checked");
      return;
    }
    for (const std::string& form : known_forms())
      EXPECT_TRUE(forms_that_ran().contains(form)) << "no test of instructions has " << form;
    for (const std::string& modifier : modifiers_without_effect())
      EXPECT_TRUE(modifiers_that_ran().contains(modifier)) << "no test of instructions has " << modifier;
  }
};

const ::testing::Environment* const kEveryForm = ::testing::AddGlobalTestEnvironment(new EveryForm);

TEST(Forms, AreListedOnceAndKnowWhatChangesNothing) {
  const auto form = [](const std::string& instruction) {
    const ModuleText module{".visible .entry k() {\n.reg .b32 %r<9>; .reg .b64 %d<9>;\n" + instruction +
                            "\n}\n"};
    return form_of(module.parse("k").statements.at(0));
  };
  EXPECT_EQ(form("ld.relaxed.gpu.global.L1::no_allocate.L2::128B.v2.u32 {%r1, %r2}, [%d1];"),
            "ld.relaxed.global.v2.u32");
  EXPECT_EQ(form("ld.shared::cta.u32 %r1, [%r2];"), "ld.shared.u32");
  EXPECT_EQ(form("atom.acq_rel.sys.global.add.u32 %r1, [%d1], %r2;"), "atom.global.add.u32");
  EXPECT_EQ(form("barrier.cta.sync.aligned 0;"), "barrier.sync");
  EXPECT_EQ(form("add.rn.ftz.f32 %r1, %r2, %r3;"), "add.rn.ftz.f32");
  EXPECT_GT(known_forms().size(), 2000u);
  EXPECT_FALSE(known_forms().contains("add.hi.s32"));
}

}  // namespace

}  // namespace kiln::emulator::testing
