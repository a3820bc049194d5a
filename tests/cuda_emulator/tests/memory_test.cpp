// Instructions that access memory, against their description in the PTX ISA: every space, type and vector, extension,
// hints; fences; discard.
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "tests/cuda_emulator/findings.h"
#include "tests/cuda_emulator/tests/device_array.h"
#include "tests/cuda_emulator/tests/ptx_harness.h"

namespace kiln::emulator::testing {

namespace {

constexpr size_t kMemoryThreads = 32, kSlot = 32;  // bytes of memory that each thread has

struct Form {
  std::string type;  // "v2.s16"
  size_t count, bytes;
  bool has_sign;
};

const std::vector<Form>& forms() {
  static const std::vector<Form> all = [] {
    std::vector<Form> made;
    for (const size_t count : {1, 2, 4}) {
      for (const std::string type :
           {"b8", "s8", "u8", "b16", "s16", "u16", "b32", "s32", "u32", "f32", "b64", "s64", "u64", "f64"}) {
        const size_t bytes = static_cast<size_t>(std::stoi(type.substr(1))) / 8;
        if (count * bytes > 16) continue;
        made.push_back(
            {count == 1 ? type : "v" + std::to_string(count) + "." + type, count, bytes, type[0] == 's'});
      }
    }
    return made;
  }();
  return all;
}

std::string values_of(const Form& form) {  // "{%v0, %v1}"
  std::string text = "%v0";
  for (size_t i = 1; i < form.count; ++i) text += ", %v" + std::to_string(i);
  return form.count == 1 ? text : "{" + text + "}";
}

// Loads through registers as wide as the type, or wider, and adds up what is there, the i-th element i + 1 times.
std::string load_and_add(const std::string& load, const Form& form, const std::string& address, size_t wide) {
  const size_t width = std::max<size_t>({form.bytes, wide, 2}) * 8;
  const std::string kind = (form.has_sign ? "s" : "u") + std::to_string(width);
  std::string text = ".reg .b" + std::to_string(width) + " %v<4>; .reg .b64 %part; mov.b64 %d, 0;\n" + load +
                     "." + form.type + " " + values_of(form) + ", [" + address + "];\n";
  for (size_t i = 0; i < form.count; ++i) {
    const std::string value = "%v" + std::to_string(i);
    text +=
        (width == 64 ? "mov.b64 %part, " + value
                     : "cvt." + std::string(form.has_sign ? "s64." : "u64.") + kind + " %part, " + value) +
        "; mad.lo.u64 %d, %part, " + std::to_string(i + 1) + ", %d;\n";
  }
  return text;
}

Bits sum_of(const uint8_t* memory, const Form& form) {
  Bits sum = 0;
  for (size_t i = 0; i < form.count; ++i) {
    Bits value = 0;
    std::memcpy(&value, memory + i * form.bytes, form.bytes);
    const size_t unused = 64 - 8 * form.bytes;
    if (form.has_sign) value = static_cast<Bits>(static_cast<int64_t>(value << unused) >> unused);
    sum += value * (i + 1);
  }
  return sum;
}

std::vector<uint8_t> random_bytes(size_t count) {
  std::mt19937 random(5);
  std::vector<uint8_t> made(count);
  for (uint8_t& byte : made) byte = static_cast<uint8_t>(random());
  return made;
}

Column addresses(void* first, size_t step) {
  Column made(kMemoryThreads);
  for (size_t i = 0; i < kMemoryThreads; ++i) made[i] = reinterpret_cast<Bits>(first) + step * i;
  return made;
}

// Room of every thread in a space that is not global, with its address in %s, and what lies at %a copied there.
std::string room_in(const std::string& space) {
  std::string text =
      ".reg .b64 %w<4>; ld.global.v2.u64 {%w0, %w1}, [%a]; ld.global.v2.u64 {%w2, %w3}, [%a+16];\n";
  if (space == "shared") {
    text +=
        ".shared .align 16 .b8 room[1024]; .reg .b32 %s; mov.u32 %s, room; mad.lo.u32 %s, %lane, 32, %s;\n";
  } else {
    text += ".local .align 16 .b8 room[32]; .reg .b64 %s; mov.u64 %s, room;\n";
  }
  return text + "st." + space + ".v2.u64 [%s], {%w0, %w1}; st." + space + ".v2.u64 [%s+16], {%w2, %w3};\n";
}

TEST(Memory, LoadsOfEveryForm) {
  const std::vector<uint8_t> bytes = random_bytes(kMemoryThreads * kSlot);
  DeviceArray<uint8_t> memory(bytes);
  const Column where = addresses(memory.data(), kSlot);
  const auto expected = [&](const Form& form) {
    return [&](Values v) { return sum_of(&bytes[v[0] - reinterpret_cast<Bits>(memory.data())], form); };
  };
  for (const Form& form : forms()) {
    for (const std::string load :
         {"ld", "ld.global", "ld.global.nc", "ldu", "ldu.global", "ld.volatile", "ld.volatile.global",
          "ld.relaxed.gpu", "ld.relaxed.sys.global", "ld.acquire.cta", "ld.acquire.gpu.global"})
      expect_ptx(load_and_add(load, form, "%a", 0), "b64", {"u64"}, {where}, expected(form));
    for (const std::string load :
         {"ld.shared", "ld.volatile.shared", "ld.relaxed.cta.shared", "ld.acquire.cta.shared"})
      expect_ptx(room_in("shared") + load_and_add(load, form, "%s", 0), "b64", {"u64"}, {where},
                 expected(form));
    expect_ptx(room_in("local") + load_and_add("ld.local", form, "%s", 0), "b64", {"u64"}, {where},
               expected(form));
    // Registers wider than the type.
    for (const size_t wide : {4, 8})
      expect_ptx(load_and_add("ld.global", form, "%a", wide), "b64", {"u64"}, {where}, expected(form));
  }
}

TEST(Memory, LoadsOfConstantsAndParameters) {
  const std::vector<uint8_t> bytes = random_bytes(16);
  std::string table = ".const .align 16 .b8 table[16] = {";
  for (size_t i = 0; i < bytes.size(); ++i) table += (i ? ", " : "") + std::to_string(bytes[i]);
  table += "};";
  const Column any(kMemoryThreads, 0);
  for (const Form& form : forms()) {
    for (const std::string address : {"table", "%w"}) {
      const Column got =
          run_ptx(".reg .b64 %w; mov.u64 %w, table; " + load_and_add("ld.const", form, address, 0), "b64",
                  {"u64"}, {any}, {}, table);
      for (const Bits each : got) ASSERT_EQ(each, sum_of(bytes.data(), form)) << form.type;
    }
    for (const std::string address : {"block", "%w"}) {
      const Column got =
          run_ptx(".reg .b64 %w; mov.u64 %w, block; " + load_and_add("ld.param", form, address, 0), "b64",
                  {"u64"}, {any});
      for (const Bits each : got) ASSERT_EQ(each, sum_of(kParameterBlock, form)) << form.type;
    }
  }
}

// Elements made of %b, in %v0 and further, and the same on the host.
std::string elements_of(const Form& form) {
  const size_t width = std::max<size_t>(form.bytes, 2) * 8;
  std::string text = ".reg .b" + std::to_string(width) + " %v<4>; .reg .b64 %x; mov.b64 %x, %b;\n";
  for (size_t i = 0; i < form.count; ++i) {
    const std::string to = "%v" + std::to_string(i);
    text += (width == 64 ? "mov.b64 " + to : "cvt.u" + std::to_string(width) + ".u64 " + to) + ", %x;\n" +
            "mad.lo.u64 %x, %x, 31, 0x123456789abcdef;\n";
  }
  return text;
}

void put_elements(const Form& form, Bits value, uint8_t* to) {
  for (size_t i = 0; i < form.count; ++i) {
    std::memcpy(to + i * form.bytes, &value, form.bytes);
    value = value * 31 + 0x123456789abcdef;
  }
}

TEST(Memory, StoresOfEveryForm) {
  const Column numbers = interesting({"u64"})[0];
  const Column values(numbers.begin(), numbers.begin() + kMemoryThreads);
  for (const Form& form : forms()) {
    const std::string make = elements_of(form);
    const auto stored = [&](Bits value) {  // and zeros behind
      std::vector<uint8_t> made(kSlot);
      put_elements(form, value, made.data());
      return made;
    };
    const Form words{"v2.u64", 2, 8, false};
    const auto check = [&](const std::string& before, const std::string& store, const std::string& address,
                           const std::string& load) {
      DeviceArray<uint8_t> memory(std::vector<uint8_t>(kMemoryThreads * kSlot, 0));
      expect_ptx(before + make + store + "." + form.type + " [" + address + "], " + values_of(form) + ";\n{" +
                     load_and_add(load, words, address, 0) + "}",
                 "b64", {"u64", "u64"}, {addresses(memory.data(), kSlot), values},
                 [&](Values v) { return sum_of(stored(v[1]).data(), words); });
      if (load != "ld.global") return;
      const std::vector<uint8_t> got = memory.read();
      for (size_t i = 0; i < kMemoryThreads; ++i)
        ASSERT_EQ(std::memcmp(&got[i * kSlot], stored(values[i]).data(), kSlot), 0)
            << store << " " << form.type;
    };
    for (const std::string store : {"st", "st.global", "st.volatile", "st.volatile.global", "st.relaxed.gpu",
                                    "st.relaxed.sys.global", "st.release.cta", "st.release.gpu.global"})
      check("", store, "%a", "ld.global");
    for (const std::string store :
         {"st.shared", "st.volatile.shared", "st.relaxed.cta.shared", "st.release.cta.shared"})
      check(room_in("shared"), store, "%s", "ld.shared");
    check(room_in("local"), "st.local", "%s", "ld.local");
  }
}

// A whole warp side by side in memory, which the emulator moves as one row.
TEST(Memory, RowsOfEveryForm) {
  const std::vector<uint8_t> bytes = random_bytes(kMemoryThreads * kSlot);
  const Column numbers = interesting({"u64"})[0];
  const Column values(numbers.begin(), numbers.begin() + kMemoryThreads);
  const std::string place =
      "bar.warp.sync -1; .reg .b32 %p; mov.u32 %p, room; mad.lo.u32 %p, %lane, SIZE, %p;\n";
  const Form words{"v2.u64", 2, 8, false};
  for (const Form& form : forms()) {
    const size_t size = form.count * form.bytes;
    std::string packed = place;
    packed.replace(packed.find("SIZE"), 4, std::to_string(size));
    DeviceArray<uint8_t> memory(bytes);
    for (const std::string load : {"ld", "ld.global", "ld.global.nc", "ldu.global"}) {
      expect_ptx(
          load_and_add(load, form, "%a", 0), "b64", {"u64"}, {addresses(memory.data(), size)},
          [&](Values v) { return sum_of(&bytes[v[0] - reinterpret_cast<Bits>(memory.data())], form); });
    }
    const Column loaded = run_ptx(room_in("shared") + packed + load_and_add("ld.shared", form, "%p", 0),
                                  "b64", {"u64"}, {addresses(memory.data(), kSlot)});
    std::vector<uint8_t> stored = bytes;
    for (size_t i = 0; i < kMemoryThreads; ++i) {
      ASSERT_EQ(loaded[i], sum_of(&bytes[i * size], form)) << form.type;
      put_elements(form, values[i], &stored[i * size]);
    }
    const Column seen = run_ptx(room_in("shared") + packed + elements_of(form) + "st.shared." + form.type +
                                    " [%p], " + values_of(form) + "; bar.warp.sync -1;\n{" +
                                    load_and_add("ld.shared", words, "%s", 0) + "}",
                                "b64", {"u64", "u64"}, {addresses(memory.data(), kSlot), values});
    for (size_t i = 0; i < kMemoryThreads; ++i)
      ASSERT_EQ(seen[i], sum_of(&stored[i * kSlot], words)) << form.type;
    for (const std::string store : {"st", "st.global"}) {
      DeviceArray<uint8_t> to(bytes);
      run_ptx(elements_of(form) + store + "." + form.type + " [%a], " + values_of(form) + ";", "b64",
              {"u64", "u64"}, {addresses(to.data(), size), values});
      ASSERT_EQ(to.read(), stored) << form.type;
    }
  }
}

TEST(Memory, StoresPartsOfWiderRegistersAndLoadsWhatIsAsked) {
  const Column values = interesting({"u32"})[0];
  const std::string shared =
      ".shared .align 16 .b8 tile[32768]; .reg .b32 %s, %x; mul.lo.u32 %s, %lane, 16; mov.u32 %x, tile; "
      "add.u32 %s, "
      "%s, %x; ";
  const auto check = [&](const std::string& body, const std::string& type, auto expected) {
    expect_ptx(shared + body, type, {"u32"}, {values}, [&](Values v) { return expected(v[0]); });
  };
  check("st.shared.v4.u32 [%s], {1, 2, %a, 4}; ld.shared.v4.u32 {_, _, %d, _}, [%s];", "b32",
        [](Bits a) { return a; });
  check("st.shared.u32 [%s], 0; st.shared.u8 [%s+1], %a; ld.shared.b32 %d, [%s];", "b32",
        [](Bits a) { return (a & 255) << 8; });
}

TEST(Memory, GenericAddressesOfEverySpace) {
  const Column values = interesting({"u32"})[0];
  const auto check = [&](const std::string& body, const std::string& result, const Reference& expected) {
    expect_ptx(
        ".local .align 8 .b8 depot[16]; .shared .align 4 .b8 tile[4096]; .reg .b64 %l, %g; .reg .b32 %r;\n" +
            body,
        result, {"u32"}, {values}, expected,
        ".const .align 4 .b8 table[8] = {1, 2, 3, 4, 5, 6, 7, 8};\n"
        ".global .align 4 .b8 words[8] = {9, 8, 7, 6, 5, 4, 3, 2};");
  };
  const auto same = [](Values v) { return v[0]; };
  const auto fixed = [](Bits bits) { return [bits](Values) { return bits; }; };
  check("mov.u64 %l, depot; cvta.local.u64 %g, %l; st.local.u32 [%l+4], %a; ld.u32 %d, [%g+4];", "b32", same);
  check(
      "mov.u64 %l, depot; cvta.local.u64 %g, %l; st.u32 [%g+4], %a; cvta.to.local.u64 %l, %g; ld.local.u32 "
      "%d, "
      "[%l+4];",
      "b32", same);
  check(
      "mov.u64 %l, tile; mad.wide.u32 %l, %lane, 4, %l; cvta.shared.u64 %g, %l; st.shared.u32 [%l], %a; "
      "ld.u32 %d, "
      "[%g];",
      "b32", same);
  check(
      "mov.u64 %l, tile; mad.wide.u32 %l, %lane, 4, %l; cvta.shared.u64 %g, %l; st.u32 [%g], %a; "
      "cvta.to.shared.u64 %l, %g; ld.shared.u32 %d, [%l];",
      "b32", same);
  check("mov.u64 %l, words; cvta.global.u64 %g, %l; ld.u32 %d, [%g+4];", "b32", fixed(0x02030405));
  check("mov.u64 %l, words; cvta.global.u64 %g, %l; cvta.to.global.u64 %l, %g; ld.global.u32 %d, [%l];",
        "b32", fixed(0x06070809));
  check("mov.u64 %l, table; cvta.const.u64 %g, %l; ld.u32 %d, [%g+4];", "b32", fixed(0x08070605));
  check("mov.u64 %l, table; cvta.const.u64 %g, %l; cvta.to.const.u64 %l, %g; ld.const.u32 %d, [%l];", "b32",
        fixed(0x04030201));
  check("mov.u64 %l, block; cvta.param.u64 %g, %l; ld.u32 %d, [%g+4];", "b32", fixed(0x48d72695));
  check("mov.u64 %l, block; cvta.param.u64 %g, %l; cvta.to.param.u64 %l, %g; ld.param.u32 %d, [%l+8];", "b32",
        fixed(0x5ceb3ab9));
  const std::pair<const char*, const char*> variables[] = {
      {"local", "depot"}, {"shared", "tile"}, {"global", "words"}, {"param", "block"}};
  for (const auto& [space, variable] : variables) {
    for (const std::string asked : {"local", "shared", "global", "param"}) {
      check(std::string("mov.u64 %l, ") + variable + "; cvta." + space + ".u64 %g, %l; isspacep." + asked +
                " %d, %g;",
            "pred", fixed(asked == space));
    }
  }
}

TEST(Memory, ParametersAreOnlyRead) {
  FindingCapture capture;
  run_ptx(".reg .b64 %g; mov.u64 %g, block; cvta.param.u64 %g, %g; st.u32 [%g], %a;", "b32", {"u32"},
          {Column(32, 1)});
  EXPECT_NE(capture.all().find("writes 4 bytes at offset 0 of the parameters, which are only read"),
            std::string::npos)
      << capture.all();
}

// As good as it is declared and no better, behind static shared memory too. (nvcc declares 16 bytes, whatever the type.)
TEST(Memory, DynamicSharedMemoryIsAlignedAsDeclared) {
  const auto run = [](const std::string& alignment) {
    FindingCapture capture;
    run_ptx(
        ".shared .b32 one; .reg .b32 %s, %v<4>; st.shared.u32 [one], 1; mov.u32 %s, weak; ld.shared.v4.u32 "
        "{%v0, "
        "%v1, %v2, %v3}, [%s];",
        "b32", {"u32"}, {Column(1, 1)}, {}, ".extern .shared .align " + alignment + " .b8 weak[];");
    return capture.all();
  };
  for (const std::string alignment : {"4", "8"})
    EXPECT_NE(run(alignment).find("misaligned: reads 16 bytes"), std::string::npos) << run(alignment);
  EXPECT_NE(run("16").find("out of bounds: reads 16 bytes"), std::string::npos) << run("16");  // of 0 bytes
}

// Hints change nothing, and scopes nothing within a block.
TEST(Memory, HintsAndScopes) {
  DeviceArray<uint32_t> memory(std::vector<uint32_t>(kMemoryThreads, 0));
  const Column where = addresses(memory.data(), 4), numbers = interesting({"u32"})[0];
  const Column values(numbers.begin(), numbers.begin() + kMemoryThreads);
  const auto check = [&](const std::string& store, const std::string& load) {
    expect_ptx(store + ".u32 [%a], %b; " + load + ".u32 %d, [%a];", "b32", {"u64", "u32"}, {where, values},
               [](Values v) { return v[1]; });
  };
  for (const std::string hint : {"ca", "cg", "cs", "lu", "cv", "L2::64B", "L2::128B", "L2::256B"})
    check("st.global", "ld.global." + hint);
  for (const std::string hint : {"wb", "cg", "cs", "wt"}) check("st.global." + hint, "ld.global");
  for (const std::string hint :
       {"L1::no_allocate", "L1::evict_last", "L1::evict_first", "L1::evict_normal", "L1::evict_unchanged"})
    check("st.global." + hint, "ld.global." + hint);
  check("st.weak.global", "ld.weak.global");
  for (const std::string scope : {"cta", "gpu", "sys"}) {
    check("st.relaxed." + scope + ".global", "ld.relaxed." + scope + ".global");
    check("st.release." + scope + ".global", "ld.acquire." + scope + ".global");
  }
}

// What orders or prepares but changes nothing that a thread can see of its own memory.
TEST(Memory, FencesPrefetchesAndSleep) {
  DeviceArray<uint32_t> memory(std::vector<uint32_t>(kMemoryThreads, 0));
  const Column where = addresses(memory.data(), 4), numbers = interesting({"u32"})[0];
  const Column values(numbers.begin(), numbers.begin() + kMemoryThreads);
  for (const std::string instruction :
       {"membar.cta", "membar.gl", "membar.sys", "fence.sc.cta", "fence.sc.gpu", "fence.sc.sys",
        "fence.acq_rel.cta", "fence.acq_rel.gpu", "fence.acq_rel.sys", "prefetch.L1 [%a]", "prefetch.L2 [%a]",
        "prefetch.global.L1 [%a]", "prefetch.global.L2 [%a]", "prefetch.local.L1 [%l]",
        "prefetch.local.L2 [%l]", "prefetchu.L1 [%a]", "nanosleep.u32 20", "nanosleep.u32 %b"}) {
    expect_ptx(
        ".local .b32 own; .reg .b64 %l; mov.u64 %l, own; st.local.u32 [%l], %b; st.global.u32 [%a], %b;\n" +
            instruction +
            ";\n.reg .b32 %r; ld.local.u32 %r, [%l]; ld.global.u32 %d, [%a]; and.b32 %d, %d, %r;",
        "b32", {"u64", "u32"}, {where, values}, [](Values v) { return v[1]; });
    const std::vector<uint32_t> got = memory.read();
    for (size_t i = 0; i < kMemoryThreads; ++i) ASSERT_EQ(got[i], values[i]) << instruction;
  }
}

// A fence is no barrier: it orders the accesses of its own thread only.
TEST(Memory, FencesOrderNoOtherThread) {
  for (const std::string fence : {"membar.gl", "fence.sc.gpu", "fence.acq_rel.cta"}) {
    DeviceArray<uint32_t> memory(std::vector<uint32_t>(32, 0));
    const Column mine = addresses(memory.data(), 4);
    Column other(32);
    for (size_t i = 0; i < 32; ++i) other[i] = mine[31 - i];
    FindingCapture capture;
    run_ptx("st.global.u32 [%a], %lane; " + fence + "; ld.global.u32 %d, [%b];", "b32", {"u64", "u64"},
            {Column(mine.begin(), mine.begin() + 32), other});
    EXPECT_NE(capture.all().find("data race in global memory"), std::string::npos) << fence << capture.all();
  }
}

TEST(Memory, WhatIsDiscardedIsNoLongerWritten) {
  const size_t lines = 8;
  for (const std::string discard : {"discard.L2", "discard.global.L2"}) {
    DeviceArray<uint8_t> memory(std::vector<uint8_t>(128 * lines, 7));
    const auto run = [&](const std::string& body, Bits first) {
      Column at(lines);
      for (size_t i = 0; i < lines; ++i) at[i] = reinterpret_cast<Bits>(memory.data()) + first + 128 * i;
      FindingCapture capture;
      run_ptx(body, "b32", {"u64"}, {at});
      return capture.all();
    };
    const std::string first_only = "setp.eq.u32 %q, %lane, 0; @%q " + discard + " [%a], 128; ";
    EXPECT_EQ(run(first_only + "@!%q ld.global.u32 %d, [%a];", 0), "");  // the others' lines stay
    EXPECT_NE(run("ld.global.u32 %d, [%a];", 124).find("reads uninitialised global memory"),
              std::string::npos);
    EXPECT_EQ(run("st.global.u32 [%a], 5; ld.global.u32 %d, [%a];", 124), "");  // written again
    EXPECT_NE(
        run(discard + " [%a], 128; ld.global.u32 %d, [%a+64];", 0).find("reads uninitialised global memory"),
        std::string::npos);
    EXPECT_NE(run(discard + " [%a], 128;", 64).find("misaligned: discards 128 bytes"), std::string::npos);
    EXPECT_NE(run(discard + " [%a], 128;", 128).find("out of bounds: discards 128 bytes"), std::string::npos);
    EXPECT_NE(run(discard + " [%a], 64;", 0).find("unsupported instruction: of that size"),
              std::string::npos);
  }
  FindingCapture capture;
  run_ptx(
      ".shared .align 128 .b8 tile[128]; .reg .b64 %g; mov.u64 %g, tile; cvta.shared.u64 %g, %g; discard.L2 "
      "[%g], 128;",
      "b32", {"u32"}, {Column(32, 0)});
  EXPECT_NE(capture.all().find("discards what is no global memory"), std::string::npos) << capture.all();
}

// ---- cp.async ----

TEST(Memory, AsynchronousCopies) {
  const std::vector<uint8_t> bytes = random_bytes(kMemoryThreads * kSlot);
  DeviceArray<uint8_t> memory(bytes);
  const Column where = addresses(memory.data(), kSlot);
  const std::string room =
      ".shared .align 16 .b8 room[1024]; .reg .b32 %s; mov.u32 %s, room; mad.lo.u32 %s, %lane, 32, %s;\n"
      "st.shared.v2.u64 [%s], {-1, -1};\n";
  const Form words{"v2.u64", 2, 8, false};
  const auto check = [&](const std::string& copy, size_t size, size_t read, const std::string& wait) {
    expect_ptx(room + copy + ";\n" + wait + ";\n" + load_and_add("ld.shared", words, "%s", 0), "b64", {"u64"},
               {where}, [&](Values v) {
                 uint8_t made[16];
                 std::memset(made, 0xff, 16);
                 std::memset(made, 0, size);
                 std::memcpy(made, &bytes[v[0] - reinterpret_cast<Bits>(memory.data())], read);
                 return sum_of(made, words);
               });
  };
  for (const size_t size : {4, 8, 16}) {
    for (const std::string level : {"ca", "cg"}) {
      if (level == "cg" && size != 16) continue;
      const std::string name = "cp.async." + level + ".shared.global";
      const std::string operands = " [%s], [%a], " + std::to_string(size);
      for (const std::string wait : {"cp.async.commit_group; cp.async.wait_group 0", "cp.async.wait_all"}) {
        check(name + operands, size, size, wait);
        for (const std::string hint : {".L2::64B", ".L2::128B", ".L2::256B"})
          check(name + hint + operands, size, size, wait);
        // Fewer bytes than are written: zeros behind them.
        for (const size_t read : {size, size - 1, size / 2, size_t{0}})
          check(name + operands + ", " + std::to_string(read), size, read, wait);
      }
    }
  }
  // Two groups: after waiting for all but one the first is there, and not the second.
  const std::string two =
      room +
      "cp.async.ca.shared.global [%s], [%a], 8; cp.async.commit_group;\n"
      "cp.async.ca.shared.global [%s+16], [%a+8], 8; cp.async.commit_group; cp.async.wait_group 1;\n";
  const auto word = [&](Values v, size_t index) {
    Bits made = 0;
    std::memcpy(&made, &bytes[v[0] - reinterpret_cast<Bits>(memory.data()) + 8 * index], 8);
    return made;
  };
  expect_ptx(two + "ld.shared.u64 %d, [%s]; cp.async.wait_group 0;", "b64", {"u64"}, {where},
             [&](Values v) { return word(v, 0); });
  expect_ptx(two + "cp.async.wait_group 0; ld.shared.u64 %d, [%s+16];", "b64", {"u64"}, {where},
             [&](Values v) { return word(v, 1); });
  FindingCapture capture;
  run_ptx(two + "ld.shared.u64 %d, [%s+16];", "b64", {"u64"}, {where});
  EXPECT_NE(capture.all().find("before it has been waited for"), std::string::npos) << capture.all();
}

}  // namespace

}  // namespace kiln::emulator::testing
