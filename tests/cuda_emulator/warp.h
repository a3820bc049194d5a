// A block of threads while it runs: its warps, their registers, its barriers, and the order of events in it.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "tests/cuda_emulator/memory.h"
#include "tests/cuda_emulator/program.h"
#include "tests/cuda_emulator/shadow.h"

namespace kiln::emulator {

constexpr int kMaxWarps = 32;
constexpr int kBarriers = 16;

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
  uint64_t count() const { return uint64_t{x} * y * z; }
};

class Block;
struct Barrier;

// Lanes that stand at the same instruction.
struct Path {
  uint32_t pc = 0;
  uint32_t lanes = 0;
};

// Lanes that wait in a collective for others of their mask.
struct Waiting {
  uint32_t pc = 0;
  uint32_t members = 0;
  uint32_t lanes = 0;
};

// A cp.async that has not been waited for, of the lanes of one instruction.
struct PendingCopy {
  uint32_t lanes = 0;
  uint32_t pc = 0;
  int bytes = 0;
  std::array<uint32_t, kLanes> group{}, to{}, from_bytes{};
  std::array<uint64_t, kLanes> from{};
};

class Warp {
 public:
  Warp(Block& block, int index) : block_(block), index_(index) {}

  void start(uint32_t lanes);
  void run();  // until every lane has left or waits

  bool has_left() const { return live_ == 0; }
  bool can_run() const { return !paths_.empty(); }
  std::string describe_waiting() const;

  // What instructions of the whole warp need.
  Block& block() const { return block_; }
  Registers registers() { return registers_; }
  void set_registers(Registers registers) { registers_ = registers; }
  int index() const { return index_; }
  uint32_t pc() const { return pc_; }
  uint32_t live() const { return live_; }
  std::vector<PendingCopy>& pending_copies() { return pending_copies_; }
  std::array<uint32_t, kLanes>& copy_groups() { return copy_groups_; }

  // Ends the kernel with a finding against the current instruction of a lane.
  [[noreturn]] void fail(int lane, const std::string& what) const;
  std::string thread_name(int lane) const;

  // Order in time.
  Clock global_clock() const;
  Clock shared_clock() const;
  uint32_t segment() const { return segment_; }
  Record record(int lane) const;
  // Whether what the record says happened before what `lane` does now.
  bool is_ordered(Record r, int lane, const Clock& clock) const;
  void new_segment();
  void order_all_lanes();            // all lanes have met
  void order_lanes(uint32_t lanes);  // these have

 private:
  friend class Block;

  void leave_barrier(const Barrier& barrier, bool all_threads);

  void run_path(Path path);
  // Collectives run at once when all their lanes are here (the common case); otherwise lanes wait.
  bool is_complete(const Op& op, uint32_t lanes) const;
  void enter_collective(const Op& op, uint32_t lanes);
  void join_collective(const Op& op, uint32_t lanes, uint32_t members);
  void run_collective(const Op& op, uint32_t lanes);
  void enter_barrier(const Op& op, uint32_t lanes);
  void exit_lanes(uint32_t lanes);
  void add_path(uint32_t pc, uint32_t lanes);
  uint32_t lowest_pc() const;
  void run_masked(const Op& op, uint32_t lanes);

  Block& block_;
  int index_;
  Registers registers_ = nullptr;
  uint32_t existing_ = 0, live_ = 0;
  uint32_t pc_ = 0;
  std::vector<Path> paths_;  // that can run, but the current one
  std::vector<Waiting> waiting_;
  std::vector<Path> at_barrier_;  // lanes that wait at a barrier, for their siblings or for the block
  uint32_t barrier_predicate_ = 0;
  uint64_t steps_left_ = 0;  // until the warp is taken to be in an endless loop

  uint32_t segment_ = 0;
  uint32_t lanes_ordered_before_ = 0;  // segments of this warp before this one are ordered for all its lanes
  std::array<std::array<uint32_t, kLanes>, kLanes> lane_known_{};  // [lane][other]: after partial __syncwarp
  bool has_lane_order_ = false;
  std::array<uint32_t, kMaxWarps>
      known_{};  // last segment of each warp that is ordered before, by named barriers

  std::vector<PendingCopy> pending_copies_;
  std::array<uint32_t, kLanes> copy_groups_{};  // cp.async groups that each lane has committed
};

// One barrier of the block, from its first arrival to its last.
struct Barrier {
  uint32_t expected = 0, arrived = 0;  // threads, in whole warps
  bool is_all = false;                 // it was asked for without a count of threads
  uint32_t waiting_warps = 0;
  uint32_t pc = 0;                          // of the first arrival
  uint32_t ones = 0, asked = 0;             // of bar.red: threads with a true predicate, threads in all
  std::array<uint32_t, kMaxWarps> known{};  // what all that have arrived know, see Warp
};

// What the streams know of kernels and copies that ran before, by the segments that they used.
class EarlierOperations {
 public:
  virtual ~EarlierOperations() = default;
  virtual bool is_ordered(uint32_t segment) const = 0;  // before the operation that is asked for
  virtual std::string name(uint32_t segment) const = 0;
};

// What is the same for all blocks of a launch.
struct Launch {
  const Kernel* kernel = nullptr;
  Dim3 grid, block;
  uint32_t dynamic_shared = 0;
  std::vector<std::byte> parameters;
  uint32_t first_segment = 0;
  uint32_t ordered_end = 0;  // operations before this segment are ordered before the launch
  const EarlierOperations* earlier = nullptr;
};

class Block {
 public:
  Block();

  void begin_launch(const Launch& launch);
  void run(uint64_t number);  // the number-th block of the grid

  const Launch& launch() const { return *launch_; }
  const Kernel& kernel() const { return *launch_->kernel; }
  std::byte* shared() { return shared_.data(); }
  uint32_t shared_bytes() const { return shared_bytes_; }
  Shadow& shared_shadow() { return *shared_shadow_; }
  // Which variable of shared memory a byte belongs to, 0: none.
  uint8_t shared_owner(uint32_t offset) const { return shared_owner_[offset]; }
  std::byte* local(int warp, int lane);
  const std::vector<std::byte>& parameters() const { return launch_->parameters; }

  uint32_t threads() const { return threads_; }
  int warps() const { return warp_count_; }
  uint32_t first_segment() const { return first_segment_; }
  uint32_t barrier_segment() const { return barrier_segment_; }

  // A whole warp reaches a barrier; `expected` threads make it complete.
  void arrive(Warp& warp, uint32_t number, uint32_t expected, bool is_all, BarrierKind kind);
  uint64_t step_budget() const { return step_budget_; }

  Dim3 index() const { return index_; }
  std::string name() const;
  // Which block and thread a record of this launch is of.
  std::string describe(Record r) const;

  uint64_t thread_instructions = 0, warp_instructions = 0;  // executed since the process began

 private:
  void complete(Barrier& barrier);
  [[noreturn]] void report_deadlock();
  void write_rows();

  const Launch* launch_ = nullptr;
  std::vector<Warp> warps_;
  int warp_count_ = 0;
  uint32_t threads_ = 0;
  Dim3 index_;
  uint32_t first_segment_ = 0, barrier_segment_ = 0;
  std::vector<uint32_t> block_segments_;  // first segment of every block of the launch so far
  std::array<Barrier, kBarriers> barriers_{};
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte[], Free> register_file_;
  std::vector<std::byte> shared_, local_;
  uint32_t shared_bytes_ = 0;
  std::unique_ptr<Shadow> shared_shadow_;
  std::vector<uint8_t> shared_owner_;
  uint64_t step_budget_ = 0;
};

// Segments are numbered over the life of the process.
uint32_t take_segment();

}  // namespace kiln::emulator
