#include "tests/cuda_emulator/shadow.h"

#include <algorithm>
#include <bit>
#include <new>
#include <utility>

namespace kiln::emulator {

namespace {

// The access is of an earlier operation, of this block before its last barrier, or of this very thread since: nothing
// that is done now can be in conflict with it.
inline bool is_settled(Record r, Record me, Record ordered_end, Record block_begin, Record block_length) {
  return (r < ordered_end) | (r - block_begin < block_length) | (((r ^ me) & record::kSameThread) == 0);
}

// Lane of each of the cells of a row: cell >> shift.
inline Record record_of_cell(Record self, size_t cell, int lane_shift) {
  return self | static_cast<Record>(cell >> lane_shift) << record::kLaneShift;
}

}  // namespace

Shadow::Cells Shadow::make_cells(size_t count) {
  void* cells = std::calloc(std::max<size_t>(count, 1), sizeof(Record));
  if (cells == nullptr) throw std::bad_alloc();
  return Cells(static_cast<Record*>(cells));
}

Shadow::Shadow(size_t bytes) : bytes_(bytes), writers_(make_cells(cells())), readers_(make_cells(cells())) {}

void Shadow::refine(size_t granularity) {
  const int finer = std::min(shift_, std::countr_zero(granularity));
  const size_t old_cells = cells(), factor = size_t{1} << (shift_ - finer);
  shift_ = finer;
  const size_t new_cells = cells();
  Cells writers = make_cells(new_cells), readers = make_cells(new_cells);
  for (size_t cell = 0; cell < old_cells; ++cell) {
    const size_t first = cell * factor, last = std::min(first + factor, new_cells);
    std::fill(writers.get() + first, writers.get() + last, writers_[cell]);
    std::fill(readers.get() + first, readers.get() + last, readers_[cell]);
  }
  writers_ = std::move(writers);
  readers_ = std::move(readers);
}

void Shadow::fill(size_t offset, size_t bytes, Record writer) {
  refine_for(offset, bytes);
  const size_t first = offset >> shift_, last = (offset + bytes + (size_t{1} << shift_) - 1) >> shift_;
  std::fill(writers_.get() + first, writers_.get() + last, writer);
  std::fill(readers_.get() + first, readers_.get() + last, Record{0});
}

void Shadow::copy(size_t offset, Shadow& from, size_t from_offset, size_t bytes, Record writer) {
  refine_for(offset, bytes);
  from.refine_for(from_offset, bytes);
  if (shift_ > from.shift_) refine(size_t{1} << from.shift_);
  if (from.shift_ > shift_) from.refine(size_t{1} << shift_);
  const size_t count = (bytes + (size_t{1} << shift_) - 1) >> shift_;
  for (size_t cell = 0; cell < count; ++cell) {
    const bool written = from.writers_[(from_offset >> shift_) + cell] != 0;
    writers_[(offset >> shift_) + cell] = written ? writer : 0;
    readers_[(offset >> shift_) + cell] = 0;
  }
}

bool Shadow::read_row(size_t offset, size_t lane_bytes, const Clock& clock, uint32_t pc) {
  refine_for(offset, lane_bytes);
  const size_t first = offset >> shift_;
  const int lane_shift = std::countr_zero(lane_bytes) - shift_;
  const int count = 32 << lane_shift;
  Record* writers = writers_.get() + first;
  Record* readers = readers_.get() + first;
  const Record self = clock.self | pc, block_length = clock.barrier_end - clock.block_begin;
  const Record begin = clock.block_begin, ordered = clock.ordered_end, initialised = clock.initialised;
  const Record launch = clock.launch_begin, readable_end = clock.readable_end;
  uint64_t trouble = 0;
#pragma GCC ivdep
  for (int i = 0; i < count; ++i) {
    const Record me = record_of_cell(self, static_cast<size_t>(i), lane_shift);
    const Record w = writers[i], r = readers[i];
    const bool written = (w >= initialised) & (w < readable_end) & is_settled(w, me, ordered, begin, block_length);
    const bool reader_known = is_settled(r, me, ordered, begin, block_length) | ((r >= launch) & (r < begin));
    trouble |= static_cast<uint64_t>(!(written & reader_known));
  }
  if (trouble != 0) return false;
#pragma GCC ivdep
  for (int i = 0; i < count; ++i) {
    const Record me = record_of_cell(self, static_cast<size_t>(i), lane_shift);
    const Record r = readers[i];
    const bool other_block = (r >= launch) & (r < begin);
    readers[i] = other_block ? r | record::kOthersMask : me;
  }
  return true;
}

bool Shadow::write_row(size_t offset, size_t lane_bytes, const Clock& clock, uint32_t pc) {
  refine_for(offset, lane_bytes);
  const size_t first = offset >> shift_;
  const int lane_shift = std::countr_zero(lane_bytes) - shift_;
  const int count = 32 << lane_shift;
  Record* writers = writers_.get() + first;
  const Record* readers = readers_.get() + first;
  const Record self = clock.self | pc, block_length = clock.barrier_end - clock.block_begin;
  const Record begin = clock.block_begin, ordered = clock.ordered_end;
  uint64_t trouble = 0;
#pragma GCC ivdep
  for (int i = 0; i < count; ++i) {
    const Record me = record_of_cell(self, static_cast<size_t>(i), lane_shift);
    const bool fine = is_settled(writers[i], me, ordered, begin, block_length) &
                      is_settled(readers[i], me, ordered, begin, block_length);
    trouble |= static_cast<uint64_t>(!fine);
  }
  if (trouble != 0) return false;
#pragma GCC ivdep
  for (int i = 0; i < count; ++i) writers[i] = record_of_cell(self, static_cast<size_t>(i), lane_shift);
  return true;
}

bool Shadow::read_same(size_t offset, size_t bytes, const Clock& clock, uint32_t pc) {
  refine_for(offset, bytes);
  const size_t first = offset >> shift_, count = std::max<size_t>(bytes >> shift_, 1);
  const Record block_length = clock.barrier_end - clock.block_begin;
  const Record me = record::with_others(clock.self | pc, record::kWarp);
  for (size_t i = first; i < first + count; ++i) {
    const Record w = writers_[i], r = readers_[i];
    const bool written =
        w >= clock.initialised && w < clock.readable_end && (w < clock.ordered_end || w - clock.block_begin < block_length);
    const bool other_block = r >= clock.launch_begin && r < clock.block_begin;
    const bool reader_known = other_block || r < clock.ordered_end || r - clock.block_begin < block_length ||
                              ((r ^ me) & record::kSameThread) == 0;
    if (!written || !reader_known) return false;
  }
  for (size_t i = first; i < first + count; ++i) {
    const Record r = readers_[i];
    const bool other_block = r >= clock.launch_begin && r < clock.block_begin;
    readers_[i] = other_block ? r | record::kOthersMask : me;
  }
  return true;
}

}  // namespace kiln::emulator
