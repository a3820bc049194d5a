// PTX text: names, scopes, operands, source lines; and what is not understood stops by name.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "tests/cuda_emulator/decode.h"
#include "tests/cuda_emulator/findings.h"
#include "tests/cuda_emulator/modules.h"
#include "tests/cuda_emulator/ptx_operand.h"
#include "tests/cuda_emulator/tests/ptx_harness.h"

namespace kiln::emulator::testing {

namespace {

TEST(Parser, Immediates) {
  const auto bits = [](const char* text) { return parse_immediate(text).bits; };
  EXPECT_EQ(bits("42"), 42u);
  EXPECT_EQ(bits("-1"), ~Bits{0});
  EXPECT_EQ(bits("0x1F"), 31u);
  EXPECT_EQ(bits("0b101"), 5u);
  EXPECT_EQ(bits("017"), 15u);
  EXPECT_EQ(bits("4294967295U"), 0xffffffffu);
  EXPECT_EQ(bits("0f3F800000"), 0x3f800000u);
  EXPECT_EQ(bits("0d3FF8000000000000"), 0x3ff8000000000000u);
  EXPECT_EQ(bits("1.5"), 0x3ff8000000000000u);
  EXPECT_EQ(bits("-0f3F800000"), 0xbf800000u);
  EXPECT_THROW(parse_immediate("12z"), PtxError);
}

TEST(Parser, ListsAndAddresses) {
  EXPECT_EQ(split_list(" a, {b, c}, [d+4] "), (std::vector<std::string_view>{"a", "{b, c}", "[d+4]"}));
  const auto no_register = [](std::string_view) { return -1; };
  EXPECT_EQ(parse_operand("[name+12]", no_register).offset, 12);
  EXPECT_EQ(parse_operand("[name+-4]", no_register).offset, -4);
  EXPECT_EQ(parse_operand("[name-4]", no_register).offset, -4);
  EXPECT_EQ(parse_operand("[name+-4]", no_register).name, "name");
  EXPECT_EQ(parse_operand("name+8", no_register).kind, Operand::Kind::kSymbol);
  EXPECT_EQ(parse_operand("_", no_register).kind, Operand::Kind::kNothing);
}

constexpr const char* kModule = R"(
.version 9.0
.target sm_80
.address_size 64
.file 1 "/a/folder/kernel.cu"
.file 2 "/a/folder/helper.cuh"
.global .align 4 .b8 table[12] = {1, 2, 3, 4, 255, 0, 0, 0, 7, 0, 0, 0};
.global .align 4 .u32 words[2] = {5, 0x10};
.visible .entry plain(.param .u64 first, .param .u32 second, .param .align 8 .b8 third[20])
.maxntid 128, 2, 1
{
  .reg .b32 %r<4>; // a comment with a ; and a {
  .reg .pred p;
  .loc 1 10 3
  mov.u32 %r1, 5; /* another
  comment */
  .loc 2 20 7, function_name $L__info, inlined_at 1 11 5
  {
    .reg .b32 %r1;
    mov.u32 %r1, 6;
  }
  add.u32 %r2, %r1, 1;
  frobnicate.b32 %r3, %r2;
  ret;
}
)";

TEST(Parser, FunctionsScopesAndLines) {
  const ModuleText module{std::string(kModule)};
  const FunctionText function = module.parse("plain");
  EXPECT_EQ(function.max_threads, 256u);
  ASSERT_EQ(function.parameters.size(), 3u);
  EXPECT_EQ(function.parameters[2].bytes, 20u);
  EXPECT_EQ(function.parameters[2].alignment, 8u);
  ASSERT_EQ(function.statements.size(), 5u);
  const auto target = [&](size_t i) { return function.statements[i].operands[0].reg; };
  EXPECT_NE(target(0), target(1));  // %r1 of the inner scope is another register
  EXPECT_EQ(function.statements[2].operands[1].reg, target(0));
  EXPECT_EQ(function.statements[0].source.line, 10);
  EXPECT_EQ(function.statements[2].source.file, 2);
  EXPECT_EQ(function.statements[4].ptx_line, 24);
  ASSERT_EQ(module.variables().size(), 2u);
  EXPECT_EQ(module.variables()[0].content[4], 255);
  EXPECT_EQ(module.variables()[1].bytes, 8u);
  EXPECT_EQ(module.variables()[1].content[4], 16);
  EXPECT_THROW(module.parse("missing"), PtxError);
}

TEST(Parser, KernelsKnowTheirLinesAndWhatStopsThem) {
  const ModuleText module{std::string(kModule)};
  const auto kernel = decode_kernel(module, "plain", {});
  EXPECT_EQ(kernel->where(0), "kernel.cu:10 (PTX line 15: mov.u32 %r1, 5)");
  EXPECT_EQ(kernel->where(3),
            "helper.cuh:20, inlined at kernel.cu:11 (PTX line 23: frobnicate.b32 %r3, %r2)");
  EXPECT_EQ(kernel->code[3].kind, OpKind::kUnsupported);
  EXPECT_EQ(kernel->parameters[1].offset, 72u);  // behind a gap of 64 bytes
  EXPECT_EQ(kernel->parameters[2].offset, 144u);
}

// Forms that the emulator does not have must stop where they are executed, never be taken for another.
TEST(Parser, UnknownFormsStop) {
  const Column any(32, 3);
  for (const char* instruction : {"add.rn.ftz.f64 %d, %a, %b;",
                                  "mul.wide.f32 %d, %a, %b;",
                                  "add.cc.u32 %d, %a, %b;",
                                  "addc.u32 %d, %a, %b;",
                                  "mul24.lo.u32 %d, %a, %b;",
                                  "shfl.bfly.b32 %d, %a, %b, 31;",
                                  "cvt.u32.f32 %d, %a;",
                                  "lop3.or.b32 %d, %a, %b, %a, 3;",
                                  "add.u64 %d, %a, %b;",
                                  "mov.u32 %d, %clock;",
                                  "ld.global.v8.u32 %d, [%at];",
                                  "cvt.rn.satfinite.f16.f32 %d, %a;",
                                  "fma.rn.f32.oob %d, %a, %b, %a;",
                                  "vote.ballot.b32 %d, %a;",
                                  "call.uni (%d), f, (%a);",
                                  "tex.1d.v4.f32.s32 %d, [%at];",
                                  "cp.async.cg.shared.global [%d], [%at], 8;",
                                  "cp.async.cg.shared.global [%d], [%at], 4;",
                                  "bar.arrive 1;",
                                  "barrier.cta.arrive.aligned 1;",
                                  "ld.relaxed.global.u32 %d, [%at];",
                                  "st.release.global.u32 [%at], %d;",
                                  "ld.acquire.u32 %d, [%at];",
                                  "ld.gpu.global.u32 %d, [%at];",
                                  "st.weak.cta.global.u32 [%at], %d;",
                                  "mov.u32 %d, %warpid;",
                                  "mov.u32 %d, %nwarpid;"}) {
    FindingCapture capture;
    run_ptx(instruction, "b32", {"u32", "u32"}, {any, any});
    ASSERT_EQ(capture.findings().size(), 1u) << instruction;
    EXPECT_NE(capture.all().find("unsupported instruction"), std::string::npos) << capture.all();
    const std::string name(instruction, std::string_view(instruction).find(' '));
    EXPECT_NE(capture.all().find(name), std::string::npos) << capture.all();
  }
  FindingCapture capture;  // not executed: no harm
  run_ptx("addc.u32 %d, %a, %b;", "b32", {"u32", "u32"}, {any, any}, Column(32, 0));
  EXPECT_EQ(capture.all(), "");
}

// More than a record of an access can tell apart.
TEST(Parser, AKernelTooLongToNumberStops) {
  std::string text = ".visible .entry k() {\n";
  for (int i = 0; i < 1 << 17; ++i) text += "ret;\n";
  const ModuleText module{text + "}\n"};
  EXPECT_THROW(decode_kernel(module, "k", {}), PtxError);
}

// As nvcc lays it out: a header of 16 bytes; entries with headers of 64, the kind at 0 (2: machine code, 1: PTX), the
// architecture at 28.
std::string fat_binary(const std::vector<std::pair<int, uint32_t>>& entries) {
  std::string all;
  for (const auto& [kind, architecture] : entries) {
    const std::string text = fmt::format(".version 9.0 // {} of {}", kind, architecture);
    std::string entry(64, '\0');
    const auto put = [&](size_t at, auto value) { std::memcpy(entry.data() + at, &value, sizeof value); };
    put(0, static_cast<uint16_t>(kind));
    put(4, uint32_t{64});
    put(8, uint64_t{text.size() + 1});
    put(28, architecture);
    all += entry + text + '\0';
  }
  std::string header(16, '\0');
  const uint32_t magic = 0xba55ed50;
  const uint16_t bytes = 16;
  const uint64_t rest = all.size();
  std::memcpy(header.data(), &magic, sizeof magic);
  std::memcpy(header.data() + 6, &bytes, sizeof bytes);
  std::memcpy(header.data() + 8, &rest, sizeof rest);
  return header + all;
}

TEST(FatBinary, ThePtxOfTheArchitectureThatIsAskedFor) {
  const char* before = std::getenv("KILN_EMULATOR_ARCHITECTURE");
  const std::string kept = before == nullptr ? "" : before;
  const std::string binary = fat_binary({{1, 100}, {2, 80}, {1, 80}, {2, 90}, {1, 90}});
  const auto ptx = [&] { return ptx_of_fat_binary(reinterpret_cast<const uint8_t*>(binary.data())); };
  unsetenv("KILN_EMULATOR_ARCHITECTURE");
  EXPECT_EQ(ptx(), ".version 9.0 // 1 of 80");
  for (const char* architecture : {"80", "90", "100"}) {
    setenv("KILN_EMULATOR_ARCHITECTURE", architecture, 1);
    EXPECT_EQ(ptx(), fmt::format(".version 9.0 // 1 of {}", architecture));
  }
  FindingCapture capture;
  setenv("KILN_EMULATOR_ARCHITECTURE", "120", 1);
  EXPECT_EQ(ptx(), "");
  EXPECT_NE(capture.all().find("holds no PTX of compute_120, but of compute_100, compute_80, compute_90;"),
            std::string::npos)
      << capture.all();
  if (before == nullptr) {
    unsetenv("KILN_EMULATOR_ARCHITECTURE");
  } else {
    setenv("KILN_EMULATOR_ARCHITECTURE", kept.c_str(), 1);
  }
}

}  // namespace

}  // namespace kiln::emulator::testing
