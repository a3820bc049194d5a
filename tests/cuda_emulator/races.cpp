#include "tests/cuda_emulator/races.h"

#include <fmt/format.h>

#include <algorithm>

namespace kiln::emulator {

namespace {

record::Others relation(Record r, Record me, const Clock& clock) {
  if (r < clock.block_begin) return record::kOtherBlocks;
  if (record::warp(r) != record::warp(me)) return record::kBlock;
  return record::lane(r) != record::lane(me) ? record::kWarp : record::kNobody;
}

const char* memory_name(const LaneAccess& access) {
  return access.shared ? "shared" : "global";
}

[[noreturn]] void race(const Warp& warp, const LaneAccess& access, const char* what, Record other) {
  const char* scope = access.strong && (other & record::kAtomic) != 0
                          ? " (atomic within a block only: one of the two is of scope .cta)"
                          : "";
  warp.fail(access.lane, fmt::format("data race in {} memory: {}{}, with nothing that orders it after {}",
                                     memory_name(access), what, scope, warp.block().describe(other)));
}

void require_landed(const Warp& warp, const LaneAccess& access, Record writer, const char* verb) {
  if ((writer & record::kInFlight) == 0) return;
  warp.fail(access.lane,
            fmt::format("{} the destination of a cp.async before it has been waited for, started by {}", verb,
                        warp.block().describe(writer)));
}

struct CellRange {
  size_t first, last;
};

CellRange cells_of(const LaneAccess& access) {
  access.shadow.refine_for(access.offset, access.bytes);
  const int shift = access.shadow.cell_shift();
  return {access.offset >> shift, (access.offset + access.bytes + (size_t{1} << shift) - 1) >> shift};
}

void note_read(Record& reader, Record me, bool ordered, const Clock& clock) {
  if (ordered) {
    reader = me;
    return;
  }
  // Another unordered reader stays on record; a write must be ordered after all of them.
  const record::Others others = std::max(record::others(reader), relation(reader, me, clock));
  const Record both_atomic = reader & me & record::kAtomic, scope = me & record::kBlockScope;
  reader = record::with_others((reader & ~record::kAtomic) | both_atomic | scope, others);
}

Record record_of(const Warp& warp, const LaneAccess& access) {
  return warp.record(access.lane) | warp.pc() | (access.strong ? record::kAtomic : 0) |
         (access.block_scope ? record::kBlockScope : 0);
}

bool both_strong(Record r, const LaneAccess& access, const Clock& clock) {
  if (!access.strong || (r & record::kAtomic) == 0) return false;
  const bool of_other_block = r < clock.block_begin || record::others(r) == record::kOtherBlocks;
  return !of_other_block || (!access.block_scope && (r & record::kBlockScope) == 0);
}

void check_readers(const Warp& warp, const Clock& clock, const LaneAccess& access, Record reader) {
  if (reader < clock.initialised || both_strong(reader, access, clock) ||
      warp.is_ordered(reader, access.lane, clock))
    return;
  race(warp, access, "a write after a read", reader);
}

void check_initialised(const Warp& warp, const Clock& clock, const LaneAccess& access, Record writer) {
  if (writer >= clock.initialised) return;
  warp.fail(access.lane,
            fmt::format("reads uninitialised {} memory, byte {} of it{}", memory_name(access), access.offset,
                        access.shared ? " (or another warp writes it later: is a barrier missing?)" : ""));
}

}  // namespace

void check_read(const Warp& warp, const Clock& clock, const LaneAccess& access) {
  const CellRange cells = cells_of(access);
  const Record me = record_of(warp, access);
  for (size_t cell = cells.first; cell < cells.last; ++cell) {
    const Record writer = access.shadow.writers()[cell];
    require_landed(warp, access, writer, "reads");
    check_initialised(warp, clock, access, writer);
    if (!both_strong(writer, access, clock) && !warp.is_ordered(writer, access.lane, clock)) {
      race(warp, access, "a read after a write", writer);
    }
    if (writer >= clock.readable_end) {
      warp.fail(access.lane,
                fmt::format("ld.global.nc (const __restrict__, __ldg) reads what the same kernel wrote: {}",
                            warp.block().describe(writer)));
    }
    Record& reader = access.shadow.readers()[cell];
    note_read(reader, me, reader < clock.initialised || warp.is_ordered(reader, access.lane, clock), clock);
  }
}

void check_write(const Warp& warp, const Clock& clock, const LaneAccess& access, bool repeats) {
  const CellRange cells = cells_of(access);
  const Record me = record_of(warp, access);
  for (size_t cell = cells.first; cell < cells.last; ++cell) {
    Record& writer = access.shadow.writers()[cell];
    require_landed(warp, access, writer, "writes to");
    // Lanes of one instruction that store one value: only the lane differs.
    const bool same_instruction = ((writer ^ me) & ~(Record{31} << record::kLaneShift)) == 0;
    if (writer >= clock.initialised && !both_strong(writer, access, clock) &&
        !(same_instruction && repeats) && !warp.is_ordered(writer, access.lane, clock)) {
      race(warp, access, "a write after a write", writer);
    }
    check_readers(warp, clock, access, access.shadow.readers()[cell]);
    writer = me;
  }
}

void check_atomic(const Warp& warp, const Clock& clock, const LaneAccess& access) {
  const CellRange cells = cells_of(access);
  const Record me = record_of(warp, access);
  for (size_t cell = cells.first; cell < cells.last; ++cell) {
    Record& writer = access.shadow.writers()[cell];
    require_landed(warp, access, writer, "updates");
    check_initialised(warp, clock, access, writer);
    const bool ordered = warp.is_ordered(writer, access.lane, clock);
    if (!ordered && !both_strong(writer, access, clock))
      race(warp, access, "an atomic update after a write", writer);
    check_readers(warp, clock, access, access.shadow.readers()[cell]);
    if (ordered) {
      writer = me;
      continue;
    }
    const record::Others others = std::max(record::others(writer), relation(writer, me, clock));
    // A record that stands for several blocks keeps the earlier one's segment, which no barrier of this block orders.
    const Record scope = (writer | me) & record::kBlockScope;
    writer = record::with_others((others == record::kOtherBlocks ? writer : me) | scope, others);
  }
}

void start_flight(const Warp& warp, const Clock& clock, const LaneAccess& access, bool repeats) {
  check_write(warp, clock, access, repeats);
  const CellRange cells = cells_of(access);
  const Record flying = record::make(UINT32_MAX, warp.index(), access.lane, warp.pc()) | record::kInFlight;
  std::fill(access.shadow.writers() + cells.first, access.shadow.writers() + cells.last, flying);
}

}  // namespace kiln::emulator
