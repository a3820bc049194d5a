// What the emulator remembers of every piece of global and shared memory: who wrote it last and who read it.
//
// Time is cut into segments. A segment is what one warp does between two points where it synchronises (with its block
// or among its lanes); segments are numbered upwards over the whole life of the process. Two accesses to one piece of
// memory, at least one of them a write, must be ordered: by being in different kernels or copies that are ordered, by a
// barrier of the block between them, by a __syncwarp of the lanes, or by being of one thread. That is decided from the
// two records alone, whatever order the emulator happened to run the threads in.
//
// Memory is watched in cells of 4 bytes. An access that covers a part of a cell makes the cells of that allocation
// smaller, down to a byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace kiln::emulator {

// One record in 64 bits: segment 32 | flight 1 | atomic 1 | others 2 | lane 5 | warp 5 | block scope 1 | pc 17.
// Zero: nobody. A larger segment is a later one.
using Record = uint64_t;

namespace record {

constexpr int kPcBits = 17;
constexpr int kWarpShift = 18, kLaneShift = 23, kOthersShift = 28, kAtomicShift = 30, kFlightShift = 31;
constexpr int kSegmentShift = 32;
constexpr Record kPcMask = (Record{1} << kPcBits) - 1;
constexpr Record kAtomic = Record{1} << kAtomicShift;
// An atomic access of scope .cta: not atomic for other blocks.
constexpr Record kBlockScope = Record{1} << kPcBits;
constexpr Record kInFlight = Record{1} << kFlightShift;  // a cp.async that nobody has waited for
constexpr Record kOthersMask = Record{3} << kOthersShift;
// Who else accessed the cell in a way that this record does not order: the same warp, the same block, other blocks.
enum Others : uint8_t { kNobody, kWarp, kBlock, kOtherBlocks };
// Everything that must agree for two records to be of one thread in one segment, with nobody else involved.
constexpr Record kSameThread = ~(kPcMask | kAtomic | kBlockScope);

constexpr uint32_t kHostSegment = 1;  // of what the host or a copy before any kernel wrote

inline uint32_t segment(Record r) {
  return static_cast<uint32_t>(r >> kSegmentShift);
}
inline uint32_t pc(Record r) {
  return static_cast<uint32_t>(r & kPcMask);
}
inline int warp(Record r) {
  return static_cast<int>(r >> kWarpShift & 31);
}
inline int lane(Record r) {
  return static_cast<int>(r >> kLaneShift & 31);
}
inline Others others(Record r) {
  return static_cast<Others>(r >> kOthersShift & 3);
}
inline Record with_others(Record r, Others o) {
  return (r & ~kOthersMask) | Record{o} << kOthersShift;
}
inline Record make(uint32_t segment, int warp, int lane, uint32_t pc) {
  return Record{segment} << kSegmentShift | Record{static_cast<uint32_t>(lane)} << kLaneShift |
         Record{static_cast<uint32_t>(warp)} << kWarpShift | pc;
}

}  // namespace record

// What one warp knows of time at the moment of an access. Bounds are segments shifted to a record's place.
struct Clock {
  // Writes before this are none: of global memory before the host's segment, of shared memory before the block's first.
  Record initialised = 0;
  Record readable_end = ~Record{0};  // writes from here on must not be read: the launch's own, by ld.global.nc
  Record ordered_end = 0;   // accesses before this are of earlier operations that are ordered before this one
  Record launch_begin = 0;  // shared memory: the same as block_begin
  Record block_begin = 0;
  Record barrier_end = 0;  // of the block's own: before the last barrier of all its threads
  Record self = 0;         // segment and warp of the accessing warp, lane 0, no pc
};

// The two records of every cell of an allocation.
class Shadow {
 public:
  explicit Shadow(size_t bytes);

  size_t bytes() const { return bytes_; }
  int cell_shift() const { return shift_; }  // log2 of a cell's bytes
  Record* writers() { return writers_.get(); }
  Record* readers() { return readers_.get(); }
  size_t cells() const { return (bytes_ + (size_t{1} << shift_) - 1) >> shift_; }

  // Makes the cells so small that [offset, offset + bytes) covers whole ones.
  void refine_for(size_t offset, size_t bytes) {
    const size_t mask = (size_t{1} << shift_) - 1;
    const bool to_the_end = offset + bytes == bytes_;
    if ((offset & mask) != 0 || ((bytes & mask) != 0 && !to_the_end))
      refine(offset | (to_the_end ? 0 : bytes));
  }

  void fill(size_t offset, size_t bytes, Record writer);  // written by `writer`, read by nobody
  // What was never written in `from` counts as never written here, the rest as written by `writer`.
  void copy(size_t offset, Shadow& from, size_t from_offset, size_t bytes, Record writer);

  // 32 lanes read `lane_bytes` each, side by side from `offset`. True, and the reads are recorded, where all is well by
  // the simplest rules; false where the cells must be looked at one by one.
  bool read_row(size_t offset, size_t lane_bytes, const Clock& clock, uint32_t pc);
  bool write_row(size_t offset, size_t lane_bytes, const Clock& clock, uint32_t pc);
  // All lanes read the same bytes.
  bool read_same(size_t offset, size_t bytes, const Clock& clock, uint32_t pc);

 private:
  void refine(size_t granularity);  // to the largest power of two that divides it

  struct Free {
    void operator()(Record* p) const { std::free(p); }
  };
  using Cells = std::unique_ptr<Record[], Free>;
  static Cells make_cells(size_t count);  // zeroed pages that cost nothing until they are touched

  size_t bytes_;
  int shift_ = 2;
  Cells writers_, readers_;
};

}  // namespace kiln::emulator
