// The rules that accesses of single threads must obey, cell by cell: nothing is read before it was written, and
// conflicting accesses are ordered in time. What breaks a rule ends the kernel with a finding.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tests/cuda_emulator/warp.h"

namespace kiln::emulator {

// An access of one lane, to bytes that exist.
struct LaneAccess {
  Shadow& shadow;
  size_t offset;
  size_t bytes;
  int lane;
  bool shared;               // to shared memory
  bool strong = false;       // atomic, relaxed, acquire or release
  bool block_scope = false;  // for threads of this block only
};

void check_read(const Warp& warp, const Clock& clock, const LaneAccess& access);
// `repeats`: the bytes written are those that are there. Lanes of one instruction may write the same value.
void check_write(const Warp& warp, const Clock& clock, const LaneAccess& access, bool repeats);
void check_atomic(const Warp& warp, const Clock& clock, const LaneAccess& access);
// The destination of a cp.async, from its start until it has been waited for.
void start_flight(const Warp& warp, const Clock& clock, const LaneAccess& access, bool repeats);

}  // namespace kiln::emulator
