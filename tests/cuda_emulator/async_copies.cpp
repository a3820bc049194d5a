// cp.async, PTX ISA 9.7.9.25: copied as late as the waits allow. Until then the destination holds 0xff, and whoever
// looks at it is told.
#include "tests/cuda_emulator/async_copies.h"

#include <algorithm>
#include <cstring>

#include "tests/cuda_emulator/rows.h"

namespace kiln::emulator {

namespace {

void finish(Warp& warp, PendingCopy& copy, uint32_t lanes) {
  Block& block = warp.block();
  Shadow& shadow = block.shared_shadow();
  for (int l = 0; l < kLanes; ++l) {
    if ((lanes >> l & 1) == 0) continue;
    const uint32_t bytes = static_cast<uint32_t>(copy.bytes), read = copy.from_bytes[l];
    std::byte* to = block.shared() + copy.to[l];
    std::memset(to, 0, bytes);
    if (read > 0) {
      const Allocation* from = DeviceMemory::instance().near(copy.from[l]);
      std::memcpy(to, from->storage.get() + (copy.from[l] - from->address), read);
    }
    shadow.refine_for(copy.to[l], bytes);
    const int shift = shadow.cell_shift();
    std::fill_n(shadow.writers() + (copy.to[l] >> shift), bytes >> shift, warp.record(l) | copy.pc);
  }
  copy.lanes &= ~lanes;
}

}  // namespace

void run_copy_async(Warp& warp, const Op& op, uint32_t lanes) {
  const size_t bytes = op.access.element;
  const Addresses to = addresses_of(warp, op.a, op.offset, op.access.narrow_address);
  const Addresses from = addresses_of(warp, op.b, op.detail->from_offset, false);
  const uint32_t* sizes = op.c == kNoRow ? nullptr : row<const uint32_t>(warp.registers(), op.c);
  PendingCopy copy;
  copy.lanes = lanes;
  copy.pc = warp.pc();
  copy.bytes = static_cast<int>(bytes);
  for (int l = 0; l < kLanes; ++l) {
    if ((lanes >> l & 1) == 0) continue;
    const uint32_t read = sizes == nullptr ? static_cast<uint32_t>(bytes) : sizes[l];
    if (read > bytes) warp.fail(l, "cp.async reads more bytes than it writes");
    if (read > 0) {
      // The whole source must be aligned, and what is read must exist.
      if (from[l] % bytes != 0) resolve(warp, l, Space::kGlobal, from[l], bytes, Verb::kCopies);
      for (uint32_t done = 0; done < read; done += read % 4 == 0 ? 4 : 1) {
        const size_t part = read % 4 == 0 ? 4 : 1;
        const Place source = resolve(warp, l, Space::kGlobal, from[l] + done, part, Verb::kCopies);
        check_read(warp, warp.global_clock(), lane_access(source, part, l));
      }
    }
    const Place target = resolve(warp, l, Space::kShared, to[l], bytes, Verb::kCopiesTo);
    start_flight(warp, warp.shared_clock(), lane_access(target, bytes, l), false);
    std::memset(target.data, 0xff, bytes);
    copy.to[l] = static_cast<uint32_t>(to[l]);
    copy.from[l] = from[l];
    copy.from_bytes[l] = read;
    copy.group[l] = warp.copy_groups()[l];
  }
  warp.pending_copies().push_back(copy);
}

void run_commit_copies(Warp& warp, const Op&, uint32_t lanes) {
  for (int l = 0; l < kLanes; ++l) warp.copy_groups()[l] += lanes >> l & 1;
}

// All but the last op.offset committed groups of each lane; a negative number: everything.
void run_wait_copies(Warp& warp, const Op& op, uint32_t lanes) {
  for (PendingCopy& copy : warp.pending_copies()) {
    uint32_t landed = 0;
    for (int l = 0; l < kLanes; ++l) {
      const int64_t last = static_cast<int64_t>(warp.copy_groups()[l]) - op.offset;
      if (op.offset < 0 || static_cast<int64_t>(copy.group[l]) < last) landed |= 1u << l;
    }
    landed &= copy.lanes & lanes;
    if (landed != 0) finish(warp, copy, landed);
  }
  std::erase_if(warp.pending_copies(), [](const PendingCopy& copy) { return copy.lanes == 0; });
}

}  // namespace kiln::emulator
