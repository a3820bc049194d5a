#include "tests/cuda_emulator/tests/ptx_harness.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <map>
#include <memory>
#include <random>
#include <utility>

#include "tests/cuda_emulator/forms.h"
#include "tests/cuda_emulator/launch.h"
#include "tests/cuda_emulator/modules.h"
#include "tests/cuda_emulator/tests/device_array.h"

namespace kiln::emulator::testing {

namespace {

constexpr Bits kUntouched = 0x5a5a5a5a5a5a5a5aull;
constexpr const char* kNames[] = {"%a", "%b", "%c", "%e"};
constexpr size_t kThreads = 1024;

int bits_of(const std::string& type) {
  return bytes_of(type_named(type)) * 8;
}

std::string register_type(const std::string& type) {
  return type == "pred" ? "pred" : fmt::format("b{}", bits_of(type));
}

// Values that matter, of each type.
std::vector<Bits> special_values(const std::string& type) {
  if (type == "pred") return {0, 1};
  if (type == "f32") {
    return {0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000,
            0xffc00001, 1,          0x807fffff, 0x00800000, 0x7f7fffff, 0x3f000000, 0x3fc00000,
            0x40200000, 0xc0200000, 0x4f000000, 0xcf000000, 0x3f800001, 0x33000000};
  }
  if (type == "f64") {
    std::vector<Bits> made;
    for (const double x :
         {0.0, -0.0, 1.0, -1.5, 2.5, 0.5, 1e300, -1e-310, 4294967296.0, 9.3e18, -9.3e18, 1e-40, 1e39}) {
      made.push_back(std::bit_cast<Bits>(x));
    }
    made.insert(made.end(), {0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000});
    return made;
  }
  if (type == "f16") {
    return {0, 0x8000, 0x3c00, 0xbc00, 0x7c00, 0xfc00, 0x7e00,
            1, 0x83ff, 0x0400, 0x7bff, 0x3800, 0x3e00, 0x4100};
  }
  if (type == "bf16") {
    return {0, 0x8000, 0x3f80, 0xbf80, 0x7f80, 0xff80, 0x7fc0,
            1, 0x807f, 0x0080, 0x7f7f, 0x3f00, 0x3fc0, 0x4020};
  }
  const int bits = bits_of(type);
  const Bits all = bits == 64 ? ~Bits{0} : (Bits{1} << bits) - 1, sign = Bits{1} << (bits - 1);
  return {0, 1, 2, 3, 7, 31, 32, 33, all, all - 1, sign, sign - 1, sign + 1, 0x55555555'55555555 & all, 100};
}

uint64_t kernel_count = 0;

std::set<std::string> forms_so_far, modifiers_so_far;

int lines_of(const std::string& text) {
  return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
}

// Takes down what the lines of the body, which begins in the first of them, are made of.
void note_forms(const std::string& text, const std::string& kernel, int first_line, int lines) {
  const ModuleText module{std::string(text)};
  for (const Statement& statement : module.parse(kernel).statements) {
    if (statement.ptx_line < first_line || statement.ptx_line >= first_line + lines) continue;
    forms_so_far.insert(form_of(statement));
    for (const std::string_view modifier : statement.modifiers)
      modifiers_so_far.insert(fmt::format("{}.{}", statement.opcode, modifier));
  }
}

}  // namespace

const std::set<std::string>& forms_that_ran() {
  return forms_so_far;
}

const std::set<std::string>& modifiers_that_ran() {
  return modifiers_so_far;
}

Column run_ptx(const std::string& body, const std::string& result, const std::vector<std::string>& types,
               const std::vector<Column>& columns, const Column& active, const std::string& module_text) {
  const size_t threads = columns.empty() ? kLanes : columns[0].size();
  const std::string name = fmt::format("instruction_{}", ++kernel_count);
  std::string text = fmt::format(
      ".version 9.0\n.target sm_80\n.address_size 64\n{}\n.visible .entry {}(.param .align 16 .b8 block[16], "
      ".param .u64 out, .param .u64 active",
      module_text, name);
  for (size_t i = 0; i < types.size(); ++i) text += fmt::format(", .param .u64 in{}", i);
  text += fmt::format(
      ")\n{{\n.reg .pred %on, %q;\n.reg .b32 %lane;\n.reg .b64 %at, %slot, %wide;\n.reg .{} %d;\n",
      register_type(result));
  for (size_t i = 0; i < types.size(); ++i)
    text += fmt::format(".reg .{} {};\n", register_type(types[i]), kNames[i]);
  text += "mov.u32 %lane, %tid.x;\nmul.wide.u32 %slot, %lane, 8;\n";
  for (size_t i = 0; i < types.size(); ++i) {
    text += fmt::format("ld.param.u64 %at, [in{}];\nadd.s64 %at, %at, %slot;\n", i);
    if (types[i] == "pred") {
      text += fmt::format("ld.global.u64 %wide, [%at];\nsetp.ne.u64 {}, %wide, 0;\n", kNames[i]);
    } else {
      text += fmt::format("ld.global.{} {}, [%at];\n", register_type(types[i]), kNames[i]);
    }
  }
  if (result == "pred") {
    text += "setp.ne.u32 %d, %lane, %lane;\n";
  } else {
    text += fmt::format("mov.b64 %wide, {:#x};\ncvt.u{}.u64 %d, %wide;\n", kUntouched, bits_of(result));
  }
  text +=
      "ld.param.u64 %at, [active];\nadd.s64 %at, %at, %slot;\nld.global.u64 %wide, [%at];\nsetp.ne.u64 %on, "
      "%wide, 0;\n";
  text += "@!%on bra done;\n";
  const int first_line = 1 + lines_of(text);
  text += fmt::format("{}\ndone:\n", body);
  text += "ld.param.u64 %at, [out];\nadd.s64 %at, %at, %slot;\n";
  if (result == "pred") {
    text += "selp.u64 %wide, 1, 0, %d;\nst.global.u64 [%at], %wide;\n";
  } else {
    text += fmt::format("st.global.u64 [%at], 0;\nst.global.{} [%at], %d;\n", register_type(result));
  }
  text += "ret;\n}\n";

  static std::string noted;  // most bodies run twice
  if (std::exchange(noted, body) != body) note_forms(text, name, first_line, 1 + lines_of(body));
  Module module(text);
  const Column on = active.empty() ? Column(threads, 1) : active;
  DeviceArray<Bits> out(threads), mask(on);
  std::vector<std::unique_ptr<DeviceArray<Bits>>> inputs;
  uint8_t block[16];
  std::copy(std::begin(kParameterBlock), std::end(kParameterBlock), block);
  Bits* pointers[6] = {out.data(), mask.data()};
  void* arguments[7] = {block, &pointers[0], &pointers[1]};
  for (size_t i = 0; i < types.size(); ++i) {
    inputs.push_back(std::make_unique<DeviceArray<Bits>>(columns[i]));
    pointers[2 + i] = inputs.back()->data();
    arguments[3 + i] = &pointers[2 + i];
  }
  add_launch(Streams::instance().default_stream(), module.kernel(name), {},
             {static_cast<uint32_t>(threads), 1, 1}, 0, arguments);
  return out.read();
}

void expect_ptx(const std::string& body, const std::string& result, const std::vector<std::string>& types,
                const std::vector<Column>& columns, const Reference& expected, const std::string& module) {
  const size_t threads = columns[0].size();
  Column odd(threads);
  for (size_t i = 0; i < threads; ++i) odd[i] = i & 1;
  const Column all_lanes = run_ptx(body, result, types, columns, {}, module),
               odd_lanes = run_ptx(body, result, types, columns, odd, module);
  const int bits = result == "pred" ? 1 : bits_of(result);
  const Bits mask = bits == 64 ? ~Bits{0} : (Bits{1} << bits) - 1;
  const Bits untouched = result == "pred" ? 0 : kUntouched & mask;
  int wrong = 0;
  std::vector<Bits> operands(columns.size());
  for (size_t i = 0; i < threads && wrong < 5; ++i) {
    for (size_t k = 0; k < columns.size(); ++k) operands[k] = columns[k][i];
    const Bits wanted = expected(operands) & mask;
    if (all_lanes[i] == wanted && odd_lanes[i] == (i & 1 ? wanted : untouched)) continue;
    ++wrong;
    std::string shown;
    for (const Bits operand : operands) shown += fmt::format(" {:#x}", operand);
    ADD_FAILURE() << body << " of" << shown << fmt::format(" is {:#x}", all_lanes[i])
                  << fmt::format(", {:#x} where half the lanes are off, but {:#x} is expected", odd_lanes[i],
                                 wanted);
  }
}

std::vector<Column> interesting(const std::vector<std::string>& types) {
  std::mt19937_64 random(17);
  std::vector<Column> columns(types.size());
  std::vector<std::vector<Bits>> specials;
  for (const std::string& type : types) specials.push_back(special_values(type));
  const size_t first = specials[0].size(), second = types.size() > 1 ? specials[1].size() : 1;
  const size_t threads = types.size() > 1 ? kThreads : kThreads / 4;
  for (size_t thread = 0; thread < threads; ++thread) {
    for (size_t i = 0; i < types.size(); ++i) {
      const std::vector<Bits>& values = specials[i];
      const int bits = types[i] == "pred" ? 1 : bits_of(types[i]);
      Bits value = random() >> (64 - bits);
      if (thread < first * second) {
        value = i == 0   ? values[thread % first]
                : i == 1 ? values[thread / first]
                         : values[random() % values.size()];
      } else if (random() % 3 == 0) {
        value = values[random() % values.size()];
      }
      columns[i].push_back(value);
    }
  }
  return columns;
}

}  // namespace kiln::emulator::testing
