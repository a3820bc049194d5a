// Access to memory by the lanes of a warp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "tests/cuda_emulator/races.h"
#include "tests/cuda_emulator/warp.h"

namespace kiln::emulator {

using Addresses = std::array<uint64_t, kLanes>;

// What the address operand of an instruction says for each lane: base row (kNoRow: none) plus displacement.
Addresses addresses_of(Warp& warp, uint32_t base, int64_t offset, bool narrow);

// Bytes of memory that a lane may touch, with their shadow (null: not watched, as local memory is).
struct Place {
  std::byte* data = nullptr;
  Shadow* shadow = nullptr;
  size_t offset = 0;  // in the shadow
  bool shared = false;
};

enum class Verb : uint8_t { kReads, kWrites, kUpdates, kCopies, kCopiesTo, kDiscards };

// Checks alignment and bounds; a finding if they are broken.
Place resolve(Warp& warp, int lane, Space space, uint64_t address, size_t bytes, Verb verb);

inline LaneAccess lane_access(const Place& place, size_t bytes, int lane) {
  return {*place.shadow, place.offset, bytes, lane, place.shared};
}

void run_load(Warp& warp, const Op& op, uint32_t lanes);
void run_store(Warp& warp, const Op& op, uint32_t lanes);
void run_load_parameter(Warp& warp, const Op& op, uint32_t lanes);
void run_atomic(Warp& warp, const Op& op, uint32_t lanes);

// Leaves global memory as if it had never been written.
constexpr size_t kDiscardedBytes = 128;
void run_discard(Warp& warp, const Op& op, uint32_t lanes);

// An atomic operation, from what is there to what will be. `flushes`: subnormal fp32 numbers count as zero, as they do in
// global memory.
enum class AtomicKind : uint8_t {
  kAdd,
  kMin,
  kMax,
  kAnd,
  kOr,
  kXor,
  kExchange,
  kCompareSwap,
  kIncrement,
  kDecrement
};
uint64_t atomic_result(AtomicKind kind, Type type, uint64_t old, uint64_t b, uint64_t c, bool flushes);

}  // namespace kiln::emulator
