#include "tests/cuda_emulator/warp.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "tests/cuda_emulator/findings.h"
#include "tests/cuda_emulator/rows.h"

namespace kiln::emulator {

namespace {

int first_lane(uint32_t lanes) {
  return std::countr_zero(lanes);
}

}  // namespace

void Warp::start(uint32_t lanes) {
  existing_ = live_ = lanes;
  paths_.assign(1, {0, lanes});
  waiting_.clear();
  at_barrier_.clear();
  pending_copies_.clear();
  copy_groups_.fill(0);
  known_.fill(0);
  if (has_lane_order_) lane_known_ = {};
  has_lane_order_ = false;
  steps_left_ = block_.step_budget();
  new_segment();
  lanes_ordered_before_ = 0;
}

void Warp::fail(int lane, const std::string& what) const {
  throw Finding(fmt::format("{}\n  at {}\n  kernel {}, block {}, thread {}", what, block_.kernel().where(pc_),
                            block_.kernel().shown_name, block_.name(), thread_name(lane)));
}

std::string Warp::thread_name(int lane) const {
  const uint32_t thread = static_cast<uint32_t>(index_ * kLanes + lane);
  const Dim3& size = block_.launch().block;
  return fmt::format("({},{},{})", thread % size.x, thread / size.x % size.y, thread / (size.x * size.y));
}

// ---- paths -----------------------------------------------------------------------------------------------------

void Warp::add_path(uint32_t pc, uint32_t lanes) {
  for (Path& path : paths_) {
    if (path.pc != pc) continue;
    path.lanes |= lanes;
    return;
  }
  paths_.push_back({pc, lanes});
}

uint32_t Warp::lowest_pc() const {
  uint32_t lowest = UINT32_MAX;
  for (const Path& path : paths_) lowest = std::min(lowest, path.pc);
  return lowest;
}

// The path that is furthest back goes first: so paths that part come together again where the code does.
void Warp::run() {
  while (!paths_.empty()) {
    const auto next = std::min_element(paths_.begin(), paths_.end(),
                                       [](const Path& a, const Path& b) { return a.pc < b.pc; });
    const Path path = *next;
    *next = paths_.back();
    paths_.pop_back();
    run_path(path);
  }
}

void Warp::run_masked(const Op& op, uint32_t lanes) {
  Op into_scratch = op;
  into_scratch.d = 0;
  op.run(registers_, into_scratch, lanes);
  const auto blend = [&]<class T>(T) {
    T* d = row<T>(registers_, op.d);
    const T* computed = row<const T>(registers_, 0);
#pragma GCC ivdep
    for (int l = 0; l < kLanes; ++l) d[l] = lanes >> l & 1 ? computed[l] : d[l];
  };
  switch (op.width) {
    case 2:
      return blend(uint16_t{});
    case 4:
      return blend(uint32_t{});
    default:
      return blend(uint64_t{});
  }
}

void Warp::run_path(Path path) {
  const Op* code = block_.kernel().code.data();
  uint32_t pc = path.pc, active = path.lanes;
  uint32_t limit = lowest_pc();
  uint64_t executed = 0, executed_lanes = 0;
  const auto leave = [&] {
    block_.warp_instructions += executed;
    block_.thread_instructions += executed_lanes;
  };
  for (;;) {
    if (pc >= limit) {  // another path is here, or further back
      add_path(pc, active);
      return leave();
    }
    const Op& op = code[pc];
    ++executed;
    executed_lanes += static_cast<uint64_t>(std::popcount(active));
    uint32_t lanes = active;
    if (op.guard != kNoRow) {
      const uint32_t guard = mask_row(registers_, op.guard);
      lanes &= op.guard_negated ? ~guard : guard;
      if (lanes == 0) {
        ++pc;
        continue;
      }
    }
    switch (op.kind) {
      case OpKind::kRow:
        if (lanes == live_) {
          op.run(registers_, op, lanes);
        } else {
          run_masked(op, lanes);
        }
        break;
      case OpKind::kMasked:
        op.run(registers_, op, lanes);
        break;
      case OpKind::kMemory:
        pc_ = pc;
        op.collective(*this, op, lanes);
        break;
      case OpKind::kNothing:
        break;
      case OpKind::kBranch:
        if (op.target <= pc) {
          pc_ = pc;
          const uint64_t steps = pc - op.target + 1;
          if (steps_left_ < steps)
            fail(first_lane(lanes), "an endless loop? The warp has run out of its budget of steps");
          steps_left_ -= steps;
        }
        if (lanes == active) {
          pc = op.target;
          continue;
        }
        add_path(op.target, lanes);
        add_path(pc + 1, active & ~lanes);
        return leave();
      case OpKind::kBranchIndexed: {
        const uint32_t* index = row<const uint32_t>(registers_, op.a);
        pc_ = pc;
        for (int l = 0; l < kLanes; ++l) {
          if ((lanes >> l & 1) == 0) continue;
          if (index[l] >= op.detail->targets.size()) fail(l, "an indexed branch beyond its targets");
          add_path(op.detail->targets[index[l]], 1u << l);
        }
        if (lanes != active) add_path(pc + 1, active & ~lanes);
        return leave();
      }
      case OpKind::kExit:
        pc_ = pc;
        exit_lanes(lanes);
        active &= ~lanes;
        if (active == 0) return leave();
        break;
      case OpKind::kCollective:
      case OpKind::kWarpBarrier:
        pc_ = pc;
        if (is_complete(op, lanes)) {
          run_collective(op, lanes);
          break;
        }
        if (lanes != active) add_path(pc + 1, active & ~lanes);
        enter_collective(op, lanes);
        return leave();
      case OpKind::kBarrier:
        pc_ = pc;
        if (lanes != active) add_path(pc + 1, active & ~lanes);
        enter_barrier(op, lanes);
        return leave();
      case OpKind::kTrap:
        pc_ = pc;
        fail(first_lane(lanes), "trap, or a failed assertion");
      case OpKind::kUnsupported: {
        pc_ = pc;
        const std::string& why = op.detail->message;
        fail(first_lane(lanes), fmt::format("unsupported instruction{}{}", why.empty() ? "" : ": ", why));
      }
    }
    ++pc;
  }
}

void Warp::exit_lanes(uint32_t lanes) {
  for (const Waiting& waiting : waiting_) {
    if ((waiting.members & lanes) == 0) continue;
    fail(first_lane(lanes), fmt::format("lanes {:#010x} exit while lanes {:#010x} wait for them at {}", lanes,
                                        waiting.lanes, block_.kernel().where(waiting.pc)));
  }
  if (!at_barrier_.empty()) {
    fail(first_lane(lanes),
         fmt::format("early exit before a barrier: lanes {:#010x} exit while others of their warp "
                     "wait at the barrier {}",
                     lanes, block_.kernel().where(at_barrier_.front().pc)));
  }
  live_ &= ~lanes;
}

// ---- collectives -----------------------------------------------------------------------------------------------

bool Warp::is_complete(const Op& op, uint32_t lanes) const {
  if (op.c == kNoRow) return lanes == kAllLanes;
  const uint32_t* members = row<const uint32_t>(registers_, op.c);
  const uint32_t first = members[first_lane(lanes)];
  if ((first & existing_) != lanes) return false;
  uint32_t different = 0;
  for (int l = 0; l < kLanes; ++l) different |= lanes >> l & 1 ? members[l] ^ first : 0;
  return different == 0;
}

void Warp::run_collective(const Op& op, uint32_t lanes) {
  if (op.kind == OpKind::kWarpBarrier) {
    order_lanes(lanes);
  } else {
    op.collective(*this, op, lanes);
  }
}

void Warp::enter_collective(const Op& op, uint32_t lanes) {
  if (op.c == kNoRow) {
    if (existing_ != kAllLanes)
      fail(first_lane(lanes), "an instruction for whole warps in a warp of fewer lanes");
    return join_collective(op, lanes, kAllLanes);
  }
  const uint32_t pc = pc_;
  while (lanes != 0) {  // lanes with different masks meet apart
    const uint32_t* masks = row<const uint32_t>(registers_, op.c);
    const uint32_t members = masks[first_lane(lanes)];
    uint32_t same = 0;
    for (int l = 0; l < kLanes; ++l) same |= (lanes >> l & 1 && masks[l] == members ? 1u : 0u) << l;
    pc_ = pc;
    join_collective(op, same, members);
    lanes &= ~same;
  }
}

void Warp::join_collective(const Op& op, uint32_t lanes, uint32_t members) {
  if ((lanes & ~members) != 0) {
    fail(first_lane(lanes & ~members),
         fmt::format("lanes {:#010x} execute a collective whose mask {:#010x} does not name them",
                     lanes & ~members, members));
  }
  const uint32_t needed = members & existing_;
  if ((needed & ~live_) != 0) {
    fail(first_lane(lanes),
         fmt::format("the mask {:#010x} of a collective names lanes {:#010x}, which have exited", members,
                     needed & ~live_));
  }
  // A __syncwarp meets any other of the same mask, other collectives only themselves.
  const bool is_barrier = op.kind == OpKind::kWarpBarrier;
  uint32_t here = lanes;
  for (const Waiting& waiting : waiting_) {
    const bool barrier_waits = block_.kernel().code[waiting.pc].kind == OpKind::kWarpBarrier;
    if (waiting.members == members && is_barrier == barrier_waits && (is_barrier || waiting.pc == pc_)) {
      here |= waiting.lanes;
    }
  }
  if (here != needed) {
    waiting_.push_back({pc_, members, lanes});
    return;
  }
  std::erase_if(waiting_, [&](const Waiting& waiting) {
    const bool meets = (waiting.lanes & here) != 0;
    if (meets) add_path(waiting.pc + 1, waiting.lanes);
    return meets;
  });
  add_path(pc_ + 1, lanes);
  run_collective(op, here);
}

// ---- barriers --------------------------------------------------------------------------------------------------

void Warp::enter_barrier(const Op& op, uint32_t lanes) {
  const BarrierKind kind = static_cast<BarrierKind>(op.small);
  if (live_ != existing_) {
    fail(first_lane(lanes),
         fmt::format("early exit before a barrier: lanes {:#010x} of the warp have exited and never "
                     "reach it",
                     existing_ & ~live_));
  }
  for (const Path& other : at_barrier_) {
    if (other.pc == pc_) continue;
    fail(first_lane(lanes),
         fmt::format("divergent barrier: lanes {:#010x} are here while lanes {:#010x} of their warp "
                     "wait at {}",
                     lanes, other.lanes, block_.kernel().where(other.pc)));
  }
  if (at_barrier_.empty()) {
    at_barrier_.push_back({pc_, lanes});
    barrier_predicate_ = 0;
  } else {
    at_barrier_.front().lanes |= lanes;
  }
  if (op.c != kNoRow)
    barrier_predicate_ |= (mask_row(registers_, op.c) ^ (op.target != 0 ? kAllLanes : 0)) & lanes;
  if (at_barrier_.front().lanes != live_) return;
  const uint32_t number = row<const uint32_t>(registers_, op.a)[first_lane(live_)];
  const bool is_all = op.b == kNoRow;
  const uint32_t expected = is_all ? static_cast<uint32_t>(block_.warps() * kLanes)
                                   : row<const uint32_t>(registers_, op.b)[first_lane(live_)];
  if (number >= kBarriers) fail(first_lane(lanes), fmt::format("barrier {} of {}", number, kBarriers));
  if (expected == 0 || expected % kLanes != 0 || expected > static_cast<uint32_t>(block_.warps() * kLanes)) {
    fail(first_lane(lanes),
         fmt::format("a barrier of {} threads in a block of {}", expected, block_.threads()));
  }
  if (kind == BarrierKind::kArrive) {
    at_barrier_.clear();
    add_path(pc_ + 1, live_);
  }
  block_.arrive(*this, number, expected, is_all, kind);
}

void Warp::leave_barrier(const Barrier& barrier, bool all_threads) {
  const uint32_t pc = at_barrier_.front().pc;
  const Op& op = block_.kernel().code[pc];
  at_barrier_.clear();
  switch (static_cast<BarrierKind>(op.small)) {
    case BarrierKind::kRedAnd:
      mask_row(registers_, op.d) = barrier.ones == barrier.asked ? kAllLanes : 0;
      break;
    case BarrierKind::kRedOr:
      mask_row(registers_, op.d) = barrier.ones > 0 ? kAllLanes : 0;
      break;
    case BarrierKind::kRedPopc:
      std::fill_n(row<uint32_t>(registers_, op.d), kLanes, barrier.ones);
      break;
    case BarrierKind::kSync:
    case BarrierKind::kArrive:
      break;
  }
  if (!all_threads) {
    for (int w = 0; w < kMaxWarps; ++w) known_[w] = std::max(known_[w], barrier.known[w]);
  }
  new_segment();
  order_all_lanes();
  add_path(pc + 1, live_);
}

std::string Warp::describe_waiting() const {
  std::string text;
  const auto add = [&](uint32_t lanes, uint32_t pc) {
    text += fmt::format("\n  warp {}, lanes {:#010x} wait at {}", index_, lanes, block_.kernel().where(pc));
  };
  for (const Waiting& waiting : waiting_) add(waiting.lanes, waiting.pc);
  for (const Path& path : at_barrier_) add(path.lanes, path.pc);
  if (live_ != existing_)
    text += fmt::format("\n  warp {}, lanes {:#010x} have exited", index_, existing_ & ~live_);
  return text;
}

// ---- order in time ---------------------------------------------------------------------------------------------

void Warp::new_segment() {
  segment_ = take_segment();
}

void Warp::order_all_lanes() {
  lanes_ordered_before_ = segment_;
}

void Warp::order_lanes(uint32_t lanes) {
  if (lanes == live_) {
    new_segment();
    order_all_lanes();
    return;
  }
  has_lane_order_ = true;
  std::array<uint32_t, kLanes> joined{};
  for (int l = 0; l < kLanes; ++l) {
    if ((lanes >> l & 1) == 0) continue;
    for (int other = 0; other < kLanes; ++other)
      joined[other] = std::max(joined[other], lane_known_[l][other]);
  }
  for (int l = 0; l < kLanes; ++l) {
    if (lanes >> l & 1) joined[l] = segment_;
  }
  for (int l = 0; l < kLanes; ++l) {
    if (lanes >> l & 1) lane_known_[l] = joined;
  }
  new_segment();
}

Clock Warp::global_clock() const {
  const auto place = [](uint32_t segment) { return Record{segment} << record::kSegmentShift; };
  Clock clock;
  clock.initialised = place(record::kHostSegment);
  clock.ordered_end = place(block_.launch().ordered_end);
  clock.launch_begin = place(block_.launch().first_segment);
  clock.block_begin = place(block_.first_segment());
  clock.barrier_end = place(block_.barrier_segment());
  clock.self = record(0);
  return clock;
}

Clock Warp::shared_clock() const {
  Clock clock = global_clock();
  clock.initialised = clock.ordered_end = clock.launch_begin = clock.block_begin;
  return clock;
}

Record Warp::record(int lane) const {
  return record::make(segment_, index_, lane, 0);
}

bool Warp::is_ordered(Record r, int lane, const Clock& clock) const {
  if (r < clock.ordered_end) return true;
  const uint32_t segment = record::segment(r);
  if (r < clock.launch_begin) {
    return block_.launch().earlier != nullptr && block_.launch().earlier->is_ordered(segment);
  }
  if (r < clock.block_begin || record::others(r) == record::kOtherBlocks) return false;
  if (r < clock.barrier_end) return true;
  const int warp = record::warp(r);
  if (warp != index_ || record::others(r) == record::kBlock) return segment <= known_[warp];
  if (record::others(r) == record::kNobody && record::lane(r) == lane) return true;
  return segment < lanes_ordered_before_ || segment <= lane_known_[lane][record::lane(r)];
}

}  // namespace kiln::emulator
