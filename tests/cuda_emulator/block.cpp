#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>

#include "tests/cuda_emulator/findings.h"
#include "tests/cuda_emulator/rows.h"
#include "tests/cuda_emulator/warp.h"

namespace kiln::emulator {

namespace {

constexpr uint32_t kSharedUnit = 128;            // what %total_smem_size is a multiple of, from sm_80 on
constexpr uint64_t kDefaultSteps = 100'000'000;  // instructions of one warp of one block

uint64_t steps_from_environment() {
  const char* asked = std::getenv("KILN_EMULATOR_STEPS");
  return asked == nullptr ? kDefaultSteps : std::strtoull(asked, nullptr, 10);
}

template <class T>
void fill_row(Registers registers, uint32_t offset, uint64_t bits) {
  std::fill_n(row<T>(registers, offset), kLanes, static_cast<T>(bits));
}

void write_constant(Registers registers, const ConstantRow& constant) {
  switch (constant.width) {
    case 0:
      mask_row(registers, constant.row) = static_cast<uint32_t>(constant.bits);
      break;
    case 2:
      fill_row<uint16_t>(registers, constant.row, constant.bits);
      break;
    case 4:
      fill_row<uint32_t>(registers, constant.row, constant.bits);
      break;
    default:
      fill_row<uint64_t>(registers, constant.row, constant.bits);
      break;
  }
}

}  // namespace

Block::Block() {
  warps_.reserve(kMaxWarps);
  for (int w = 0; w < kMaxWarps; ++w) warps_.emplace_back(*this, w);
}

void Block::begin_launch(const Launch& launch) {
  launch_ = &launch;
  step_budget_ = steps_from_environment();
  const Kernel& program = *launch.kernel;
  threads_ = static_cast<uint32_t>(launch.block.count());
  warp_count_ = static_cast<int>((threads_ + kLanes - 1) / kLanes);
  block_segments_.clear();
  const size_t bytes = align_up(program.register_bytes, 64u);
  register_file_.reset(
      static_cast<std::byte*>(std::aligned_alloc(64, bytes * static_cast<size_t>(warp_count_))));
  std::memset(register_file_.get(), 0xcd, bytes * static_cast<size_t>(warp_count_));
  for (int w = 0; w < warp_count_; ++w)
    warps_[w].set_registers(register_file_.get() + bytes * static_cast<size_t>(w));
  write_rows();

  std::vector<SharedVariable> variables = program.shared;
  variables.push_back({program.dynamic_shared_offset, launch.dynamic_shared});
  shared_bytes_ = variables.back().offset + variables.back().bytes;
  shared_.resize(shared_bytes_);
  shared_owner_.assign(shared_bytes_, 0);
  for (size_t v = 0; v < variables.size(); ++v) {
    std::memset(shared_owner_.data() + variables[v].offset, static_cast<int>(v % 255 + 1),
                variables[v].bytes);
  }
  shared_shadow_ = std::make_unique<Shadow>(shared_bytes_);
}

// Constants, and the special registers that all blocks share.
void Block::write_rows() {
  const Kernel& program = *launch_->kernel;
  const Dim3 &size = launch_->block, &grid = launch_->grid;
  for (int w = 0; w < warp_count_; ++w) {
    const Registers registers = warps_[w].registers();
    for (const ConstantRow& constant : program.constants) write_constant(registers, constant);
    for (const SpecialRow& special : program.specials) {
      uint32_t* values = row<uint32_t>(registers, special.row);
      for (uint32_t l = 0; l < kLanes; ++l) {
        const uint32_t thread = static_cast<uint32_t>(w * kLanes) + l, bit = 1u << l;
        switch (special.which) {
          case Special::kTidX:
            values[l] = thread % size.x;
            break;
          case Special::kTidY:
            values[l] = thread / size.x % size.y;
            break;
          case Special::kTidZ:
            values[l] = thread / (size.x * size.y);
            break;
          case Special::kNtidX:
            values[l] = size.x;
            break;
          case Special::kNtidY:
            values[l] = size.y;
            break;
          case Special::kNtidZ:
            values[l] = size.z;
            break;
          case Special::kNctaidX:
            values[l] = grid.x;
            break;
          case Special::kNctaidY:
            values[l] = grid.y;
            break;
          case Special::kNctaidZ:
            values[l] = grid.z;
            break;
          case Special::kLaneId:
            values[l] = l;
            break;
          case Special::kMaskEq:
            values[l] = bit;
            break;
          case Special::kMaskLt:
            values[l] = bit - 1;
            break;
          case Special::kMaskLe:
            values[l] = bit | (bit - 1);
            break;
          case Special::kMaskGt:
            values[l] = ~(bit | (bit - 1));
            break;
          case Special::kMaskGe:
            values[l] = ~(bit - 1);
            break;
          case Special::kDynamicShared:
            values[l] = launch_->dynamic_shared;
            break;
          case Special::kTotalShared:
            values[l] = align_up(launch_->dynamic_shared + program.static_shared_bytes, kSharedUnit);
            break;
          case Special::kCtaidX:
          case Special::kCtaidY:
          case Special::kCtaidZ:
            break;
        }
      }
    }
  }
}

void Block::run(uint64_t number) {
  const Dim3& grid = launch_->grid;
  index_ = {static_cast<uint32_t>(number % grid.x), static_cast<uint32_t>(number / grid.x % grid.y),
            static_cast<uint32_t>(number / (uint64_t{grid.x} * grid.y))};
  std::fill(shared_.begin(), shared_.end(), std::byte{0xff});
  local_.assign(static_cast<size_t>(kernel().local_bytes) * kLanes * static_cast<size_t>(warp_count_),
                std::byte{0xff});
  barriers_.fill({});
  for (int w = 0; w < warp_count_; ++w) {
    for (const SpecialRow& special : kernel().specials) {
      if (special.which == Special::kCtaidX) fill_row<uint32_t>(warps_[w].registers(), special.row, index_.x);
      if (special.which == Special::kCtaidY) fill_row<uint32_t>(warps_[w].registers(), special.row, index_.y);
      if (special.which == Special::kCtaidZ) fill_row<uint32_t>(warps_[w].registers(), special.row, index_.z);
    }
  }
  for (int w = 0; w < warp_count_; ++w) {
    const uint32_t rest = threads_ - static_cast<uint32_t>(w * kLanes);
    warps_[w].start(rest >= kLanes ? kAllLanes : (1u << rest) - 1);
    if (w == 0) {
      first_segment_ = barrier_segment_ = warps_[0].segment();
      block_segments_.push_back(first_segment_);
    }
  }
  for (;;) {
    bool ran = false, all_left = true;
    for (int w = 0; w < warp_count_; ++w) {
      if (warps_[w].can_run()) {
        warps_[w].run();
        ran = true;
      }
      all_left = all_left && warps_[w].has_left();
    }
    if (all_left) return;
    if (!ran) report_deadlock();
  }
}

void Block::arrive(Warp& warp, uint32_t number, uint32_t expected, bool is_all, BarrierKind kind) {
  Barrier& barrier = barriers_[number];
  if (barrier.arrived == 0) {
    barrier.expected = expected;
    barrier.is_all = is_all;
    barrier.pc = warp.pc();
  } else if (barrier.expected != expected) {
    warp.fail(0, fmt::format("barrier {} is for {} threads here, for {} at {}", number, expected,
                             barrier.expected, kernel().where(barrier.pc)));
  } else if (is_all && barrier.is_all && barrier.pc != warp.pc()) {
    warp.fail(
        0, fmt::format("divergent barrier: other warps of the block wait at {}", kernel().where(barrier.pc)));
  }
  barrier.arrived += kLanes;
  barrier.ones += static_cast<uint32_t>(std::popcount(warp.barrier_predicate_));
  barrier.asked += static_cast<uint32_t>(std::popcount(warp.live()));
  for (int w = 0; w < kMaxWarps; ++w) barrier.known[w] = std::max(barrier.known[w], warp.known_[w]);
  barrier.known[warp.index()] = warp.segment();
  if (kind == BarrierKind::kArrive) {
    warp.new_segment();
  } else {
    barrier.waiting_warps |= 1u << warp.index();
  }
  if (barrier.arrived == barrier.expected) complete(barrier);
}

void Block::complete(Barrier& barrier) {
  const Barrier done = barrier;
  barrier = {};
  const uint32_t all = warp_count_ == kMaxWarps ? kAllLanes : (1u << warp_count_) - 1;
  const bool all_threads = done.waiting_warps == all;
  if (all_threads) barrier_segment_ = take_segment();
  for (int w = 0; w < warp_count_; ++w) {
    if (done.waiting_warps >> w & 1) warps_[w].leave_barrier(done, all_threads);
  }
}

void Block::report_deadlock() {
  std::string text =
      "a barrier or a collective that can never complete (divergent barrier, or early exit before it):";
  for (int w = 0; w < warp_count_; ++w) text += warps_[w].describe_waiting();
  throw Finding(fmt::format("{}\n  kernel {}, block {}", text, kernel().shown_name, name()));
}

std::byte* Block::local(int warp, int lane) {
  return local_.data() +
         static_cast<size_t>(kernel().local_bytes) * static_cast<size_t>(warp * kLanes + lane);
}

std::string Block::name() const {
  return fmt::format("({},{},{})", index_.x, index_.y, index_.z);
}

std::string Block::describe(Record r) const {
  const uint32_t segment = record::segment(r);
  if (segment < launch_->first_segment) {
    return fmt::format(
        "{}, which no event or synchronisation orders before this kernel",
        launch_->earlier == nullptr ? "an earlier operation" : launch_->earlier->name(segment));
  }
  const auto after = std::upper_bound(block_segments_.begin(), block_segments_.end(), segment);
  const uint64_t number = static_cast<uint64_t>(after - block_segments_.begin()) - 1;
  const Dim3& grid = launch_->grid;
  return fmt::format("block ({},{},{}) thread {} at {}", number % grid.x, number / grid.x % grid.y,
                     number / (uint64_t{grid.x} * grid.y),
                     warps_[static_cast<size_t>(record::warp(r))].thread_name(record::lane(r)),
                     kernel().where(record::pc(r)));
}

uint32_t take_segment() {
  static uint32_t next = record::kHostSegment + 1;
  if (next == UINT32_MAX - 1) {
    report("more than 4 billion segments in one process");
    std::abort();
  }
  return next++;
}

}  // namespace kiln::emulator
