// What PTX is decoded into: one Op per instruction, its operands as offsets into a warp's register file.
//
// A register file holds one row per register, 32 elements of the register's own width side by side; a predicate is one
// 32-bit word, bit L of lane L. Constants and special registers are rows as well, written once per launch (the block's
// coordinates once per block), so that no instruction asks what kind of operand it has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "tests/cuda_emulator/ptx_text.h"

namespace kiln::emulator {

constexpr int kLanes = 32;
constexpr uint32_t kAllLanes = 0xffffffffu;
constexpr uint32_t kNoRow = 0xffffffffu;

template <class T>
constexpr T align_up(T value, T alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// The first place from `value` on that is aligned so and no better: an odd multiple.
template <class T>
constexpr T align_no_better(T value, T alignment) {
  const T aligned = align_up(value, alignment);
  return (aligned / alignment) % 2 == 1 ? aligned : aligned + alignment;
}

struct Op;
class Warp;
using Registers = std::byte*;
// Computes all 32 rows' elements. One that writes more than its row `d`, or a predicate, heeds the mask itself.
using AluFunction = void (*)(Registers, const Op&, uint32_t mask);
// An instruction of the whole warp: what lanes of `mask` exchange.
using WarpFunction = void (*)(Warp&, const Op&, uint32_t mask);

enum class OpKind : uint8_t {
  kRow,     // writes row d, of `width` bytes an element, and nothing else
  kMasked,  // an AluFunction that heeds the mask
  kBranch,
  kBranchIndexed,
  kExit,
  kMemory,      // a WarpFunction that no lane waits for
  kCollective,  // a WarpFunction that waits for the lanes of row c (kNoRow: all that live)
  kWarpBarrier,
  kBarrier,  // bar.sync, bar.red, bar.arrive
  kNothing,  // fences, prefetches
  kTrap,
  kUnsupported,
};

enum class Space : uint8_t { kGeneric, kGlobal, kShared, kLocal, kParam };

enum class Rounding : uint8_t { kNearest, kZero, kDown, kUp, kAway };

// A cvt that is no plain change of width: the types, the bytes of the registers, which may be wider, and the modes.
struct Conversion {
  Type to = Type::kNone, from = Type::kNone;
  int to_register = 4, from_register = 4;
  Rounding rounding = Rounding::kNearest;
  bool to_integral = false;  // .rni and the like: `rounding` says to which integer
  bool saturates = false, flushes = false, relu = false;
};

// What does not fit into an Op.
struct Detail {
  Conversion conversion;
  uint32_t (*compare)(Registers, const Op&) = nullptr;
  Type type = Type::kNone;      // of an atomic operation
  int64_t from_offset = 0;      // displacement of a cp.async's source
  AluFunction inner = nullptr;  // called with the processor's rounding set
  Rounding rounding = Rounding::kNearest;
  std::vector<uint32_t> rows;                    // of a vector operand, kNoRow: none; D of an mma
  std::vector<uint32_t> a_rows, b_rows, c_rows;  // the other operands of an mma
  std::vector<uint32_t> targets;                 // of an indexed branch
  std::string message;                           // of what stops
};

// One memory instruction.
struct Access {
  Space space = Space::kGeneric;
  uint8_t element = 4;  // bytes in memory
  uint8_t count = 1;    // elements, 2 or 4 in vector forms
  uint8_t width = 4;    // bytes of the register
  bool sign_extends = false;
  bool narrow_address = false;  // the address register has 32 bits
  bool read_only = false;       // ld.global.nc: nobody may write there during the kernel
  bool strong = false;          // relaxed, acquire, release: no race with others of the kind
  bool block_scope = false;     // .cta: not so for threads of other blocks
};

enum class BarrierKind : uint8_t { kSync, kArrive, kRedAnd, kRedOr, kRedPopc };

struct Op {
  AluFunction run = nullptr;
  WarpFunction collective = nullptr;
  const Detail* detail = nullptr;
  int64_t offset = 0;  // displacement of an address; immediates of other kinds
  uint32_t d = kNoRow, a = kNoRow, b = kNoRow, c = kNoRow;
  uint32_t e = kNoRow;      // a second destination (setp p|q) or a fourth source
  uint32_t guard = kNoRow;  // predicate
  uint32_t target = 0;      // of a branch
  OpKind kind = OpKind::kNothing;
  uint8_t width = 0;  // kRow: bytes of an element of row d
  uint8_t small = 0;  // a mode: the table of lop3, a shuffle's mode, a kind of barrier
  bool guard_negated = false;
  Access access;
};

enum class Special : uint8_t {
  kTidX,
  kTidY,
  kTidZ,
  kNtidX,
  kNtidY,
  kNtidZ,
  kCtaidX,
  kCtaidY,
  kCtaidZ,
  kNctaidX,
  kNctaidY,
  kNctaidZ,
  kLaneId,
  kMaskEq,
  kMaskLt,
  kMaskLe,
  kMaskGt,
  kMaskGe,
  kDynamicShared,
  kTotalShared,
};

struct ConstantRow {
  uint32_t row;
  uint8_t width;
  uint64_t bits;
};

struct SpecialRow {
  uint32_t row;
  Special which;
};

struct Parameter {
  uint32_t offset, bytes;
};

// A variable of a block's shared memory; what lies between two of them belongs to none.
struct SharedVariable {
  uint32_t offset, bytes;
};

struct Kernel {
  std::string name;        // as the linker knows it
  std::string shown_name;  // as the programmer does
  std::vector<Op> code;    // ends with an exit
  std::vector<SourceLine> lines;
  std::vector<int> ptx_lines;
  std::vector<std::string> texts;
  std::deque<Detail> details;
  std::vector<ConstantRow> constants;
  std::vector<SpecialRow> specials;
  uint32_t register_bytes = 0;  // of one warp's register file
  std::vector<Parameter> parameters;
  uint32_t parameter_bytes = 0;
  std::vector<SharedVariable> shared;  // static ones
  uint32_t dynamic_shared_offset = 0;  // where dynamic shared memory begins
  uint32_t static_shared_bytes = 0;    // as a GPU counts them, without gaps
  uint32_t local_bytes = 0;            // per thread
  uint32_t max_threads = 1024;
  const ModuleText* module = nullptr;
  std::map<std::pair<int, int>, SourceLine> inlined_at;

  std::string where(uint32_t pc) const;  // "norm.cu:12 (PTX line 40: ld.global.f32 ...)"
};

}  // namespace kiln::emulator
