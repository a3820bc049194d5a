// atom and red against their description in the PTX ISA: every operation and type, in global and shared memory and by
// generic addresses, with many threads at one word.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <type_traits>

#include "tests/cuda_emulator/program.h"
#include "tests/cuda_emulator/tests/device_array.h"
#include "tests/cuda_emulator/tests/ptx_harness.h"

namespace kiln::emulator::testing {

namespace {

constexpr size_t kWords = 8;  // of 8 bytes, which the threads share: thread i has word i % 8

using Update = std::function<Bits(Bits old, Bits b, Bits c)>;

std::string atomic_register(const std::string& type) {  // "noftz.f16x2": b32
  const std::string last = type.substr(type.find('.') + 1);
  if (last.ends_with("x2")) return "b32";
  return "b" + last.substr(last.find_first_of("0123456789"));
}

// atom returns what was there, in the order of the threads: the emulator runs them so. red only leaves the result.
void check_atomic_in(const std::string& space, const std::string& operation, const std::string& type,
                     const std::vector<Column>& operands, const Update& update) {
  const std::string bits = atomic_register(type), after = "." + operation + "." + type;
  const Bits mask = ~Bits{0} >> (64 - std::stoi(bits.substr(1)));
  const size_t threads = operands[0].size();
  for (const bool returns : {true, false}) {
    if (!returns && (operation == "exch" || operation == "cas")) continue;
    Column start(operands[0].end() - kWords, operands[0].end()), words = start, old(threads);
    for (size_t i = 0; i < threads; ++i) {
      Bits& word = words[i % kWords];
      old[i] = word & mask;
      word = (word & ~mask) | (update(old[i], operands[0][i], operands[1][i]) & mask);
    }
    DeviceArray<Bits> memory(start);
    Column where(threads);
    for (size_t i = 0; i < threads; ++i) where[i] = reinterpret_cast<Bits>(memory.data() + i % kWords);
    // In shared memory: the first threads bring the words there and back.
    const bool shared = space == ".shared";
    const std::string before =
        ".shared .align 8 .b8 words[64]; .reg .b32 %s, %x; .reg .b64 %w; and.b32 %s, %lane, 7; mov.u32 %x, "
        "words;\n"
        "mad.lo.u32 %s, %s, 8, %x; setp.lt.u32 %q, %lane, 8;\n"
        "@%q ld.global.u64 %w, [%a]; @%q st.shared.u64 [%s], %w; bar.sync 0;\n";
    const std::string behind = "bar.sync 0; @%q ld.shared.u64 %w, [%s]; @%q st.global.u64 [%a], %w;\n";
    const std::string address = shared ? "[%s]" : "[%a]", c = operation == "cas" ? ", %c" : "";
    const std::string instruction =
        (returns ? "atom" + space + after + " %d, " : "red" + space + after + " ") + address + ", %b" + c +
        ";\n";
    const Column got = run_ptx(shared ? before + instruction + behind : instruction, bits,
                               {"u64", bits, bits}, {where, operands[0], operands[1]});
    const Column left = memory.read();
    for (size_t i = 0; i < kWords; ++i)
      ASSERT_EQ(left[i], words[i]) << space << after << (returns ? "" : " by red") << ", word " << i;
    for (size_t i = 0; returns && i < threads; ++i)
      ASSERT_EQ(got[i], old[i]) << space << after << ", thread " << i << " of " << operands[0][i];
  }
}

// In all spaces; after the barrier of shared memory any warp may be first, hence only one.
void check_atomic(const std::string& operation, const std::string& type, std::vector<Column> operands,
                  const Update& update) {
  for (const std::string space : {"", ".global"}) check_atomic_in(space, operation, type, operands, update);
  for (Column& each : operands) each.resize(kLanes);
  check_atomic_in(".shared", operation, type, operands, update);
}

// Operands and starting values that matter.
std::vector<Column> atomic_operands(const std::string& type) {
  std::vector<Column> made = interesting({type, type});
  made[0].resize(256);
  made[1].resize(256);
  return made;
}

template <class F>
void for_types(F f) {
  f(int32_t{}, "s32");
  f(uint32_t{}, "u32");
  f(int64_t{}, "s64");
  f(uint64_t{}, "u64");
}

TEST(Atomics, Integers) {
  for_types([]<class T>(T, const std::string& type) {
    if (type != "s64")
      check_atomic("add", type, atomic_operands(type), [](Bits old, Bits b, Bits) { return old + b; });
    check_atomic("min", type, atomic_operands(type),
                 [](Bits old, Bits b, Bits) { return static_cast<T>(old) < static_cast<T>(b) ? old : b; });
    check_atomic("max", type, atomic_operands(type),
                 [](Bits old, Bits b, Bits) { return static_cast<T>(old) > static_cast<T>(b) ? old : b; });
  });
  check_atomic("inc", "u32", atomic_operands("u32"),
               [](Bits old, Bits b, Bits) { return old >= b ? 0 : old + 1; });
  check_atomic("dec", "u32", atomic_operands("u32"),
               [](Bits old, Bits b, Bits) { return old == 0 || old > b ? b : old - 1; });
  std::vector<Column> small = atomic_operands("u32");  // so that they count and wrap
  for (Bits& each : small[0]) each %= 5;
  check_atomic("inc", "u32", small, [](Bits old, Bits b, Bits) { return old >= b ? 0 : old + 1; });
  check_atomic("dec", "u32", small, [](Bits old, Bits b, Bits) { return old == 0 || old > b ? b : old - 1; });
}

TEST(Atomics, Bits) {
  for (const std::string type : {"b32", "b64"}) {
    check_atomic("and", type, atomic_operands(type), [](Bits old, Bits b, Bits) { return old & b; });
    check_atomic("or", type, atomic_operands(type), [](Bits old, Bits b, Bits) { return old | b; });
    check_atomic("xor", type, atomic_operands(type), [](Bits old, Bits b, Bits) { return old ^ b; });
    check_atomic("exch", type, atomic_operands(type), [](Bits, Bits b, Bits) { return b; });
  }
  for (const std::string type : {"b16", "b32", "b64"}) {
    const Bits high = type == "b64" ? Bits{1} << 40 : 0;  // all bits are compared
    std::vector<Column> compared = atomic_operands(type);
    for (size_t i = 0; i < compared[0].size(); ++i) {
      compared[0][i] = i * 7 / 5 % 3 + (i % 4 == 0 ? high : 0);
      compared[1][i] = i % 3;
    }
    check_atomic("cas", type, compared, [](Bits old, Bits b, Bits c) { return old == b ? c : old; });
  }
}

// fp32 sums in global memory take subnormal numbers for zero, those in shared memory do not.
TEST(Atomics, Floats) {
  const auto flushed = [](float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; };
  const auto sum = [&](const char* space, bool flushes) {
    const std::vector<Column> operands = atomic_operands("f32");
    const auto in = [&](Bits bits) { return flushes ? flushed(f32(bits)) : f32(bits); };
    for (size_t i = 0; i + 1 < operands[0].size(); ++i) {
      DeviceArray<Bits> memory(std::vector<Bits>{operands[0][i]});
      const Column got = run_ptx(
          std::string(
              ".shared .b32 word; .reg .b32 %s, %v; .reg .b64 %g; mov.u32 %s, word; cvt.u64.u32 %g, %s; "
              "cvta.shared.u64 %g, %g; ld.global.u32 %v, [%a]; st.shared.u32 [%s], %v;\n") +
              (std::string(space) == ".global"   ? "atom.global.add.f32 %v, [%a], %b; ld.global.u32 %d, [%a];"
               : std::string(space) == ".shared" ? "atom.shared.add.f32 %v, [%s], %b; ld.shared.u32 %d, [%s];"
                                                 : "atom.add.f32 %v, [%g], %b; ld.shared.u32 %d, [%s];"),
          "b32", {"u64", "b32"}, {{reinterpret_cast<Bits>(memory.data())}, {operands[0][i + 1]}});
      const float result = in(operands[0][i]) + in(operands[0][i + 1]);
      ASSERT_EQ(got[0], bits_of(flushes ? flushed(result) : result)) << space << " " << operands[0][i];
    }
  };
  sum(".global", true);
  sum(".shared", false);
  sum("generic", false);
  // Many threads at one word: numbers whose sums are exact in any order.
  std::vector<Column> quarters = atomic_operands("f32");
  for (size_t i = 0; i < quarters[0].size(); ++i) quarters[0][i] = bits_of(static_cast<float>(i % 9) * 0.25f);
  check_atomic("add", "f32", quarters, [](Bits old, Bits b, Bits) { return bits_of(f32(old) + f32(b)); });
  std::vector<Column> doubles = atomic_operands("f64");
  check_atomic("add", "f64", doubles, [](Bits old, Bits b, Bits) { return bits_of(f64(old) + f64(b)); });
}

Bits half_sum(Bits a, Bits b) {
  const auto value = [](Bits bits) {
    __half_raw raw;
    raw.x = static_cast<uint16_t>(bits);
    return __half2float(__half(raw));
  };
  const float sum = value(a) + value(b);
  return sum == sum ? __half_raw(__float2half_rn(sum)).x : 0x7fff;
}

Bits brain_sum(Bits a, Bits b) {
  const float sum = f32((a & 0xffff) << 16) + f32((b & 0xffff) << 16);
  return sum == sum ? __nv_bfloat16_raw(__float2bfloat16_rn(sum)).x : 0x7fff;
}

TEST(Atomics, SmallFloats) {
  const auto pair = [](Bits (*sum)(Bits, Bits)) {
    return [sum](Bits old, Bits b, Bits) {
      return sum(old >> 16, b >> 16) << 16 | sum(old & 0xffff, b & 0xffff);
    };
  };
  check_atomic("add", "noftz.f16", atomic_operands("f16"),
               [](Bits old, Bits b, Bits) { return half_sum(old, b); });
  check_atomic("add", "noftz.bf16", atomic_operands("bf16"),
               [](Bits old, Bits b, Bits) { return brain_sum(old, b); });
  check_atomic("add", "noftz.f16x2", atomic_operands("u32"), pair(half_sum));
  check_atomic("add", "noftz.bf16x2", atomic_operands("u32"), pair(brain_sum));
}

// Semantics and scopes change nothing: an atomic operation is one already.
TEST(Atomics, SemanticsAndScopes) {
  for (const std::string scope : {"", ".cta", ".gpu", ".sys"}) {
    for (const std::string order : {"", ".relaxed", ".acquire", ".release", ".acq_rel"}) {
      for (const bool returns : {true, false}) {
        if (!returns && (order == ".acquire" || order == ".acq_rel")) continue;
        DeviceArray<uint32_t> word(std::vector<uint32_t>{5});
        const Column where(64, reinterpret_cast<Bits>(word.data()));
        run_ptx((returns ? "atom" : "red") + order + scope + ".global.add.u32 " + (returns ? "%d, " : "") +
                    "[%a], 3;",
                "b32", {"u64"}, {where});
        EXPECT_EQ(word.read()[0], 5u + 64 * 3) << order << scope;
      }
    }
  }
}

}  // namespace

}  // namespace kiln::emulator::testing
