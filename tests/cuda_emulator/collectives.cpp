// Barriers, shuffles, votes and reductions of a warp, PTX ISA 9.7.9.6, 9.7.13.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "tests/cuda_emulator/decode.h"
#include "tests/cuda_emulator/rows.h"
#include "tests/cuda_emulator/warp.h"

namespace kiln::emulator {

namespace {

void set_predicate(Registers r, uint32_t to, uint32_t lanes, uint32_t value) {
  if (to == kNoRow) return;
  uint32_t& d = mask_row(r, to);
  d = (d & ~lanes) | (value & lanes);
}

// ---- shfl ----

enum class Shuffle : uint8_t { kUp, kDown, kButterfly, kIndex };

// The lane that `lane` reads from and whether that is inside its segment; b and c as the instruction has them.
std::pair<int, bool> shuffle_source(Shuffle mode, int lane, uint32_t b, uint32_t c) {
  const int distance = static_cast<int>(b & 31), segment = static_cast<int>(c >> 8 & 31);
  const int clamp = static_cast<int>(c & 31);
  const int last = (lane & segment) | (clamp & ~segment), first = lane & segment;
  switch (mode) {
    case Shuffle::kUp:
      return {lane - distance, lane - distance >= last};
    case Shuffle::kDown:
      return {lane + distance, lane + distance <= last};
    case Shuffle::kButterfly:
      return {lane ^ distance, (lane ^ distance) <= last};
    case Shuffle::kIndex:
      break;
  }
  const int source = first | (distance & ~segment);
  return {source, source <= last};
}

void run_shuffle(Warp& warp, const Op& op, uint32_t lanes) {
  const Registers r = warp.registers();
  uint32_t values[kLanes];
  std::memcpy(values, row<const uint32_t>(r, op.a), sizeof values);
  const uint32_t* distance = row<const uint32_t>(r, op.b);
  const uint32_t* clamp = row<const uint32_t>(r, op.e);
  uint32_t* d = row<uint32_t>(r, op.d);
  uint32_t inside_lanes = 0, results[kLanes];
  for (int l = 0; l < kLanes; ++l) {
    results[l] = d[l];
    if ((lanes >> l & 1) == 0) continue;
    const auto [source, inside] = shuffle_source(static_cast<Shuffle>(op.small), l, distance[l], clamp[l]);
    if (inside && (lanes >> source & 1) == 0) {
      warp.fail(
          l, fmt::format("a shuffle reads lane {}, which takes no part (lanes {:#010x} do)", source, lanes));
    }
    results[l] = values[inside ? source : l];
    inside_lanes |= (inside ? 1u : 0u) << l;
  }
  std::memcpy(d, results, sizeof results);
  set_predicate(r, op.target, lanes, inside_lanes);
}

// ---- vote, match, redux ----

enum class Vote : uint8_t { kBallot, kAny, kAll, kUniform };

void run_vote(Warp& warp, const Op& op, uint32_t lanes) {
  const Registers r = warp.registers();
  const uint32_t votes = (mask_row(r, op.a) ^ (op.target != 0 ? kAllLanes : 0)) & lanes;
  const auto all = [](bool yes) { return yes ? kAllLanes : 0; };
  switch (static_cast<Vote>(op.small)) {
    case Vote::kBallot:
      for (int l = 0; l < kLanes; ++l) {
        if (lanes >> l & 1) row<uint32_t>(r, op.d)[l] = votes;
      }
      return;
    case Vote::kAny:
      return set_predicate(r, op.d, lanes, all(votes != 0));
    case Vote::kAll:
      return set_predicate(r, op.d, lanes, all(votes == lanes));
    case Vote::kUniform:
      return set_predicate(r, op.d, lanes, all(votes == lanes || votes == 0));
  }
}

template <class T>
void run_match(Warp& warp, const Op& op, uint32_t lanes) {
  const Registers r = warp.registers();
  T values[kLanes];
  std::memcpy(values, row<const T>(r, op.a), sizeof values);
  uint32_t* d = row<uint32_t>(r, op.d);
  const bool all = op.small != 0;
  bool all_equal = true;
  const T first = values[std::countr_zero(lanes)];
  for (int l = 0; l < kLanes; ++l) all_equal = all_equal && ((lanes >> l & 1) == 0 || values[l] == first);
  for (int l = 0; l < kLanes; ++l) {
    if ((lanes >> l & 1) == 0) continue;
    uint32_t same = 0;
    for (int other = 0; other < kLanes; ++other) same |= (values[other] == values[l] ? 1u : 0u) << other;
    d[l] = all ? (all_equal ? lanes : 0) : same & lanes;
  }
  if (all) set_predicate(r, op.target, lanes, all_equal ? kAllLanes : 0);
}

enum class Reduction : uint8_t { kAdd, kMin, kMax, kAnd, kOr, kXor };

template <class T>
void run_reduction(Warp& warp, const Op& op, uint32_t lanes) {
  const Registers r = warp.registers();
  const T* a = row<const T>(r, op.a);
  T result = a[std::countr_zero(lanes)];
  for (int l = std::countr_zero(lanes) + 1; l < kLanes; ++l) {
    if ((lanes >> l & 1) == 0) continue;
    switch (static_cast<Reduction>(op.small)) {
      case Reduction::kAdd:
        result = static_cast<T>(static_cast<uint32_t>(result) + static_cast<uint32_t>(a[l]));
        break;
      case Reduction::kMin:
        result = std::min(result, a[l]);
        break;
      case Reduction::kMax:
        result = std::max(result, a[l]);
        break;
      case Reduction::kAnd:
        result &= a[l];
        break;
      case Reduction::kOr:
        result |= a[l];
        break;
      case Reduction::kXor:
        result ^= a[l];
        break;
    }
  }
  for (int l = 0; l < kLanes; ++l) {
    if (lanes >> l & 1) row<T>(r, op.d)[l] = result;
  }
}

// The index of the only modifier of `s` that is among `names`.
uint8_t mode_of(const Statement& s, std::initializer_list<std::string_view> names) {
  uint8_t index = 0;
  for (const std::string_view name : names) {
    if (s.has(name)) return index;
    ++index;
  }
  throw UnsupportedInstruction("of that mode");
}

void decode_shuffle(const Statement& s, Rows& rows, Op& op) {
  if (!s.has("sync")) throw UnsupportedInstruction("without .sync");
  op.small = mode_of(s, {"up", "down", "bfly", "idx"});
  const Operand& to = operand(s, 0);
  const bool pair = to.kind == Operand::Kind::kPair;
  op.d = rows.destination(pair ? to.parts[0] : to, Type::kB32);
  op.target = pair ? rows.optional_predicate(to.parts[1]) : kNoRow;
  op.a = rows.source(operand(s, 1), Type::kB32);
  op.b = rows.source(operand(s, 2), Type::kB32);
  op.e = rows.source(operand(s, 3), Type::kB32);
  op.c = rows.source(operand(s, 4), Type::kB32);
  op.collective = run_shuffle;
}

void decode_vote(const Statement& s, Rows& rows, Op& op) {
  if (!s.has("sync")) throw UnsupportedInstruction("without .sync");
  op.small = mode_of(s, {"ballot", "any", "all", "uni"});
  op.d = s.has("ballot") ? rows.destination(operand(s, 0), Type::kB32) : rows.predicate(operand(s, 0));
  Operand vote = operand(s, 1);
  op.target = vote.negated ? 1 : 0;
  vote.negated = false;
  op.a = rows.predicate(vote);
  op.c = rows.source(operand(s, 2), Type::kB32);
  op.collective = run_vote;
}

void decode_match(const Statement& s, Rows& rows, Op& op) {
  op.small = mode_of(s, {"any", "all"});
  const Operand& to = operand(s, 0);
  const bool pair = to.kind == Operand::Kind::kPair;
  op.d = rows.destination(pair ? to.parts[0] : to, Type::kB32);
  op.target = pair ? rows.optional_predicate(to.parts[1]) : kNoRow;
  op.a = rows.source(operand(s, 1), s.type());
  op.c = rows.source(operand(s, 2), Type::kB32);
  op.collective = bytes_of(s.type()) == 8 ? run_match<uint64_t> : run_match<uint32_t>;
}

void decode_reduction(const Statement& s, Rows& rows, Op& op) {
  only_modifiers(s, {"sync", "add", "min", "max", "and", "or", "xor"});
  op.small = mode_of(s, {"add", "min", "max", "and", "or", "xor"});
  op.d = rows.destination(operand(s, 0), s.type());
  op.a = rows.source(operand(s, 1), s.type());
  op.c = rows.source(operand(s, 2), Type::kB32);
  if (bytes_of(s.type()) != 4 || s.type() == Type::kF32) throw UnsupportedInstruction("of that type");
  op.collective = s.type() == Type::kS32 ? run_reduction<int32_t> : run_reduction<uint32_t>;
}

// bar.sync a{, b}; bar.arrive a, b; bar.red.popc.u32 d, a{, b}, {!}p; also spelled barrier.cta.
void decode_barrier(const Statement& s, Rows& rows, Op& op) {
  only_modifiers(s, {"sync", "arrive", "red", "popc", "and", "or", "cta", "aligned"});
  op.kind = OpKind::kBarrier;
  const bool red = s.has("red");
  op.small = static_cast<uint8_t>(!red ? (s.has("arrive") ? BarrierKind::kArrive : BarrierKind::kSync)
                                  : s.has("popc") ? BarrierKind::kRedPopc
                                  : s.has("and")  ? BarrierKind::kRedAnd
                                                  : BarrierKind::kRedOr);
  const size_t first = red ? 1 : 0, last = s.operands.size() - (red ? 1 : 0);
  op.a = rows.source(operand(s, first), Type::kU32);
  if (s.has("arrive") && last == first + 1) throw UnsupportedInstruction("without a number of threads");
  if (last > first + 1) op.b = rows.source(operand(s, first + 1), Type::kU32);
  if (!red) return;
  op.d = s.has("popc") ? rows.destination(operand(s, 0), Type::kU32) : rows.predicate(operand(s, 0));
  Operand asked = operand(s, last);
  op.target = asked.negated ? 1 : 0;
  asked.negated = false;
  op.c = rows.predicate(asked);
}

}  // namespace

bool decode_collective(const Statement& s, Rows& rows, Kernel&, Op& op) {
  if (s.opcode == "activemask") throw UnsupportedInstruction("the lanes that it names are not specified");
  if (s.opcode == "bar" && s.has("warp")) {
    op.kind = OpKind::kWarpBarrier;
    op.c = rows.source(operand(s, 0), Type::kB32);
    return true;
  }
  if (s.opcode == "bar" || s.opcode == "barrier") {
    decode_barrier(s, rows, op);
    return true;
  }
  op.kind = OpKind::kCollective;
  if (s.opcode == "shfl") {
    decode_shuffle(s, rows, op);
  } else if (s.opcode == "vote") {
    decode_vote(s, rows, op);
  } else if (s.opcode == "match") {
    decode_match(s, rows, op);
  } else if (s.opcode == "redux") {
    decode_reduction(s, rows, op);
  } else {
    return false;
  }
  return true;
}

}  // namespace kiln::emulator
