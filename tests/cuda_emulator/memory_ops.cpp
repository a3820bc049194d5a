#include "tests/cuda_emulator/memory_ops.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "tests/cuda_emulator/rows.h"

namespace kiln::emulator {

namespace {

// ---- values between memory and registers ----

uint64_t widened(const std::byte* from, const Access& access) {
  uint64_t value = 0;
  std::memcpy(&value, from, access.element);
  if (!access.sign_extends || access.element == 8) return value;
  const int unused = 64 - 8 * access.element;
  return static_cast<uint64_t>(static_cast<int64_t>(value << unused) >> unused);
}

uint32_t row_of(const Op& op, int part) {
  return op.access.count == 1 ? op.d : op.detail->rows[static_cast<size_t>(part)];
}

void load_lane(Registers r, const Op& op, int lane, const std::byte* from) {
  const Access& access = op.access;
  for (int part = 0; part < access.count; ++part) {
    const uint32_t to = row_of(op, part);
    if (to == kNoRow) continue;
    const uint64_t value = widened(from + part * access.element, access);
    std::memcpy(r + to + static_cast<uint32_t>(lane * access.width), &value, access.width);
  }
}

void store_lane(Registers r, const Op& op, int lane, std::byte* to) {
  const Access& access = op.access;
  for (int part = 0; part < access.count; ++part) {
    std::memcpy(to + part * access.element, r + row_of(op, part) + static_cast<uint32_t>(lane * access.width),
                access.element);
  }
}

// All lanes, side by side in memory.
template <class T>
void load_row(Registers r, const Op& op, const std::byte* from) {
  const int count = op.access.count;
  if (count == 1) {
    std::memcpy(row<T>(r, op.d), from, kLanes * sizeof(T));
    return;
  }
  for (int part = 0; part < count; ++part) {
    const uint32_t to = op.detail->rows[static_cast<size_t>(part)];
    if (to == kNoRow) continue;
    T* d = row<T>(r, to);
    const std::byte* at = from + static_cast<size_t>(part) * sizeof(T);
    for (int l = 0; l < kLanes; ++l) {
      std::memcpy(&d[l], at + static_cast<size_t>(l * count) * sizeof(T), sizeof(T));
    }
  }
}

template <class T>
void store_row(Registers r, const Op& op, std::byte* to) {
  const int count = op.access.count;
  if (count == 1) {
    std::memcpy(to, row<T>(r, op.d), kLanes * sizeof(T));
    return;
  }
  for (int part = 0; part < count; ++part) {
    const T* a = row<const T>(r, op.detail->rows[static_cast<size_t>(part)]);
    std::byte* at = to + static_cast<size_t>(part) * sizeof(T);
    for (int l = 0; l < kLanes; ++l) {
      std::memcpy(at + static_cast<size_t>(l * count) * sizeof(T), &a[l], sizeof(T));
    }
  }
}

// ---- checks ----

const char* name_of(Verb verb) {
  constexpr const char* kNames[] = {"reads", "writes", "updates", "copies", "copies to", "discards"};
  return kNames[static_cast<size_t>(verb)];
}

[[noreturn]] void out_of_bounds(Warp& warp, int lane, Verb verb, size_t bytes, const std::string& where) {
  warp.fail(lane, fmt::format("out of bounds: {} {} bytes at {}", name_of(verb), bytes, where));
}

Place resolve_global(Warp& warp, int lane, uint64_t address, size_t bytes, Verb verb) {
  DeviceMemory& memory = DeviceMemory::instance();
  Allocation* found = memory.near(address);
  if (found == nullptr || found->freed || !found->holds(address, bytes)) {
    if (address >= 4096 && !memory.is_device(address)) {
      warp.fail(lane, fmt::format("host pointer in a kernel: {} {} bytes at {:#x}, which is no device memory",
                                  name_of(verb), bytes, address));
    }
    out_of_bounds(warp, lane, verb, bytes, memory.describe(address));
  }
  const size_t offset = address - found->address;
  return {found->storage.get() + offset, found->shadow.get(), offset, false};
}

Place resolve_shared(Warp& warp, int lane, uint64_t address, size_t bytes, Verb verb) {
  Block& block = warp.block();
  const uint32_t size = block.shared_bytes();
  const uint32_t offset = static_cast<uint32_t>(address);
  const bool inside = address < size && bytes <= size - address;
  const uint8_t owner = inside ? block.shared_owner(offset) : 0;
  if (owner == 0 || owner != block.shared_owner(offset + static_cast<uint32_t>(bytes) - 1)) {
    out_of_bounds(
        warp, lane, verb, bytes,
        fmt::format("offset {} of shared memory, outside of every variable or beyond the end of one "
                    "(dynamic shared memory: {} bytes from offset {})",
                    address, block.launch().dynamic_shared, block.kernel().dynamic_shared_offset));
  }
  return {block.shared() + offset, &block.shared_shadow(), offset, true};
}

bool is_in_one_parameter(const Warp& warp, uint64_t address, size_t bytes) {
  for (const Parameter& each : warp.block().kernel().parameters) {
    if (address >= each.offset && address + bytes <= uint64_t{each.offset} + each.bytes) return true;
  }
  return false;
}

// ---- the common case: 32 lanes side by side ----

bool is_side_by_side(const Addresses& at, size_t lane_bytes) {
  uint64_t different = 0;
  for (int l = 0; l < kLanes; ++l) different |= at[l] ^ (at[0] + static_cast<uint64_t>(l) * lane_bytes);
  return different == 0;
}

bool is_same(const Addresses& at) {
  uint64_t different = 0;
  for (int l = 0; l < kLanes; ++l) different |= at[l] ^ at[0];
  return different == 0;
}

// Memory that a whole row lies in, if it does and is aligned; no data otherwise, and the lanes are looked at one by one.
Place find_row(Warp& warp, Space space, uint64_t address, size_t bytes, size_t lane_bytes) {
  if ((address & (lane_bytes - 1)) != 0) return {};
  if (space == Space::kShared) {
    Block& block = warp.block();
    if (address >= block.shared_bytes() || bytes > block.shared_bytes() - address) return {};
    const uint32_t offset = static_cast<uint32_t>(address);
    const uint8_t owner = block.shared_owner(offset);
    if (owner == 0 || owner != block.shared_owner(offset + static_cast<uint32_t>(bytes) - 1)) return {};
    return {block.shared() + offset, &block.shared_shadow(), offset, true};
  }
  Allocation* found = DeviceMemory::instance().near(address);
  if (found == nullptr || found->freed || !found->holds(address, bytes)) return {};
  const size_t offset = address - found->address;
  return {found->storage.get() + offset, found->shadow.get(), offset, false};
}

// Generic addresses of one space become that space's own; kGeneric where the lanes differ.
Space common_space(Addresses& at, Space space, uint32_t lanes) {
  if (space != Space::kGeneric) return space;
  const Space found = space_of(at[static_cast<size_t>(std::countr_zero(lanes))]);
  for (int l = 0; l < kLanes; ++l) {
    if ((lanes >> l & 1) && space_of(at[l]) != found) return Space::kGeneric;
  }
  if (found != Space::kGlobal) {
    for (uint64_t& each : at) each -= window_base(found);
  }
  return found;
}

template <class F>
void with_element(uint8_t bytes, F f) {
  switch (bytes) {
    case 1:
      return f(uint8_t{});
    case 2:
      return f(uint16_t{});
    case 4:
      return f(uint32_t{});
    default:
      return f(uint64_t{});
  }
}

}  // namespace

Addresses addresses_of(Warp& warp, uint32_t base, int64_t offset, bool narrow) {
  Addresses at;
  const uint64_t displacement = static_cast<uint64_t>(offset);
  if (base == kNoRow) {
    at.fill(displacement);
  } else if (narrow) {
    const uint32_t* from = row<const uint32_t>(warp.registers(), base);
    for (int l = 0; l < kLanes; ++l)
      at[l] = static_cast<uint32_t>(from[l] + static_cast<uint32_t>(displacement));
  } else {
    const uint64_t* from = row<const uint64_t>(warp.registers(), base);
    for (int l = 0; l < kLanes; ++l) at[l] = from[l] + displacement;
  }
  return at;
}

Place resolve(Warp& warp, int lane, Space space, uint64_t address, size_t bytes, Verb verb) {
  if (space == Space::kGeneric) {
    space = space_of(address);
    if (space != Space::kGlobal) address -= window_base(space);
  }
  if (address % bytes != 0) {
    warp.fail(lane,
              fmt::format("misaligned: {} {} bytes at an address that is {} modulo {}{}", name_of(verb),
                          bytes, address % bytes, bytes,
                          space == Space::kGlobal ? ", " + DeviceMemory::instance().describe(address) : ""));
  }
  if (space == Space::kGlobal) return resolve_global(warp, lane, address, bytes, verb);
  if (space == Space::kShared) return resolve_shared(warp, lane, address, bytes, verb);
  if (space == Space::kLocal) {
    const uint32_t size = warp.block().kernel().local_bytes;
    if (address >= size || bytes > size - address) {
      out_of_bounds(warp, lane, verb, bytes,
                    fmt::format("offset {} of {} bytes of local memory", address, size));
    }
    return {warp.block().local(warp.index(), lane) + address, nullptr, 0, false};
  }
  if (verb != Verb::kReads || !is_in_one_parameter(warp, address, bytes)) {
    out_of_bounds(warp, lane, verb, bytes,
                  fmt::format("offset {} of the parameters, {}", address,
                              verb == Verb::kReads ? "outside of every one or beyond the end of one"
                                                   : "which are only read"));
  }
  return {const_cast<std::byte*>(warp.block().parameters().data()) + address, nullptr, 0, false};
}

void run_load(Warp& warp, const Op& op, uint32_t lanes) {
  const Access& access = op.access;
  const Registers r = warp.registers();
  const size_t lane_bytes = static_cast<size_t>(access.element) * access.count;
  Addresses at = addresses_of(warp, op.a, op.offset, access.narrow_address);
  const Space space = common_space(at, access.space, lanes);
  Clock clock = space == Space::kShared ? warp.shared_clock() : warp.global_clock();
  if (access.read_only) clock.readable_end = clock.launch_begin;
  if (lanes == kAllLanes && access.element == access.width && !access.strong &&
      (space == Space::kGlobal || space == Space::kShared)) {
    if (is_side_by_side(at, lane_bytes)) {
      const Place place = find_row(warp, space, at[0], kLanes * lane_bytes, lane_bytes);
      if (place.data != nullptr && place.shadow->read_row(place.offset, lane_bytes, clock, warp.pc())) {
        with_element(access.element, [&]<class T>(T) { load_row<T>(r, op, place.data); });
        return;
      }
    } else if (is_same(at)) {
      const Place place = find_row(warp, space, at[0], lane_bytes, lane_bytes);
      if (place.data != nullptr && place.shadow->read_same(place.offset, lane_bytes, clock, warp.pc())) {
        with_element(access.element, [&]<class T>(T) {
          for (int part = 0; part < access.count; ++part) {
            if (row_of(op, part) == kNoRow) continue;
            T value;
            std::memcpy(&value, place.data + static_cast<size_t>(part) * sizeof(T), sizeof(T));
            std::fill_n(row<T>(r, row_of(op, part)), kLanes, value);
          }
        });
        return;
      }
    }
  }
  for (int l = 0; l < kLanes; ++l) {
    if ((lanes >> l & 1) == 0) continue;
    const Place place = resolve(warp, l, space, at[l], lane_bytes, Verb::kReads);
    if (place.shadow != nullptr) {
      LaneAccess checked = lane_access(place, lane_bytes, l);
      checked.strong = access.strong;
      checked.block_scope = access.block_scope;
      check_read(warp, place.shared ? warp.shared_clock() : clock, checked);
    }
    load_lane(r, op, l, place.data);
  }
}

void run_store(Warp& warp, const Op& op, uint32_t lanes) {
  const Access& access = op.access;
  const Registers r = warp.registers();
  const size_t lane_bytes = static_cast<size_t>(access.element) * access.count;
  Addresses at = addresses_of(warp, op.a, op.offset, access.narrow_address);
  const Space space = common_space(at, access.space, lanes);
  const Clock clock = space == Space::kShared ? warp.shared_clock() : warp.global_clock();
  if (lanes == kAllLanes && access.element == access.width && !access.strong &&
      is_side_by_side(at, lane_bytes) && (space == Space::kGlobal || space == Space::kShared)) {
    const Place place = find_row(warp, space, at[0], kLanes * lane_bytes, lane_bytes);
    if (place.data != nullptr && place.shadow->write_row(place.offset, lane_bytes, clock, warp.pc())) {
      with_element(access.element, [&]<class T>(T) { store_row<T>(r, op, place.data); });
      return;
    }
  }
  for (int l = 0; l < kLanes; ++l) {
    if ((lanes >> l & 1) == 0) continue;
    const Place place = resolve(warp, l, space, at[l], lane_bytes, Verb::kWrites);
    std::byte value[32];
    store_lane(r, op, l, value);
    if (place.shadow != nullptr) {
      LaneAccess checked = lane_access(place, lane_bytes, l);
      checked.strong = access.strong;
      checked.block_scope = access.block_scope;
      check_write(warp, place.shared ? warp.shared_clock() : clock, checked,
                  std::memcmp(value, place.data, lane_bytes) == 0);
    }
    std::memcpy(place.data, value, lane_bytes);
  }
}

void run_load_parameter(Warp& warp, const Op& op, uint32_t lanes) {
  const Addresses at = addresses_of(warp, op.a, op.offset, op.access.narrow_address);
  const size_t lane_bytes = static_cast<size_t>(op.access.element) * op.access.count;
  if (op.a == kNoRow && op.access.count == 1 && lanes == kAllLanes && op.access.element == op.access.width &&
      is_in_one_parameter(warp, at[0], lane_bytes)) {
    with_element(op.access.element, [&]<class T>(T value) {
      std::memcpy(&value, warp.block().parameters().data() + at[0], sizeof value);
      std::fill_n(row<T>(warp.registers(), op.d), kLanes, value);
    });
    return;
  }
  for (int l = 0; l < kLanes; ++l) {
    if ((lanes >> l & 1) == 0) continue;
    load_lane(warp.registers(), op, l, resolve(warp, l, Space::kParam, at[l], lane_bytes, Verb::kReads).data);
  }
}

void run_atomic(Warp& warp, const Op& op, uint32_t lanes) {
  const Access& access = op.access;
  const Registers r = warp.registers();
  const Addresses at = addresses_of(warp, op.a, op.offset, access.narrow_address);
  const Type type = op.detail->type;
  for (int l = 0; l < kLanes; ++l) {
    if ((lanes >> l & 1) == 0) continue;
    const Place place = resolve(warp, l, access.space, at[l], access.element, Verb::kUpdates);
    if (place.shadow != nullptr) {
      LaneAccess checked = lane_access(place, access.element, l);
      checked.strong = true;
      checked.block_scope = access.block_scope;
      check_atomic(warp, place.shared ? warp.shared_clock() : warp.global_clock(), checked);
    }
    uint64_t old = 0, b = 0, c = 0;
    std::memcpy(&old, place.data, access.element);
    std::memcpy(&b, r + op.b + static_cast<uint32_t>(l * access.width), access.width);
    if (op.c != kNoRow) std::memcpy(&c, r + op.c + static_cast<uint32_t>(l * access.width), access.width);
    const uint64_t made = atomic_result(static_cast<AtomicKind>(op.small), type, old, b, c, !place.shared);
    std::memcpy(place.data, &made, access.element);
    if (op.d != kNoRow) std::memcpy(r + op.d + static_cast<uint32_t>(l * access.width), &old, access.width);
  }
}

void run_discard(Warp& warp, const Op& op, uint32_t lanes) {
  const Addresses at = addresses_of(warp, op.a, op.offset, op.access.narrow_address);
  for (int l = 0; l < kLanes; ++l) {
    if ((lanes >> l & 1) == 0) continue;
    const Place place = resolve(warp, l, op.access.space, at[l], kDiscardedBytes, Verb::kDiscards);
    if (place.shadow == nullptr || place.shared) warp.fail(l, "discards what is no global memory");
    check_write(warp, warp.global_clock(), lane_access(place, kDiscardedBytes, l), false);
    place.shadow->fill(place.offset, kDiscardedBytes, Record{0});
  }
}

}  // namespace kiln::emulator
