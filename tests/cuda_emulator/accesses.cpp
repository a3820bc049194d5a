#include "tests/cuda_emulator/accesses.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "tests/cuda_emulator/findings.h"

namespace kiln::emulator {

Allocation& allocation_of(uint64_t address, size_t bytes, const std::string& what) {
  DeviceMemory& memory = DeviceMemory::instance();
  Allocation* found = memory.near(address);
  if (found == nullptr || found->freed || !found->holds(address, bytes)) {
    throw Finding(fmt::format("out of bounds: {} of {} bytes at {}", what, bytes, memory.describe(address)));
  }
  return *found;
}

Accesses::Accesses(const Operation& operation, std::string what)
    : history_(operation), what_(std::move(what)) {
  const uint32_t ordered_end = history_.ordered_end(), segment = history_.begin();
  ordered_end_ = Record{std::min(ordered_end, segment)} << record::kSegmentShift;
  me_ = record::make(segment, 0, 0, 0);
}

std::string Accesses::name(const char* operand) const {
  return operand == nullptr ? what_ : fmt::format("{}: {}", what_, operand);
}

Accesses::Range Accesses::range(uint64_t address, size_t bytes, const char* operand) const {
  Allocation& allocation = allocation_of(address, bytes, name(operand));
  const size_t offset = address - allocation.address;
  allocation.shadow->refine_for(offset, bytes);
  const int shift = allocation.shadow->cell_shift();
  return {allocation, offset, offset >> shift, (offset + bytes + (size_t{1} << shift) - 1) >> shift};
}

void Accesses::check_order(Record other, const char* other_does, const char* does,
                           const char* operand) const {
  const uint32_t segment = record::segment(other);
  if (segment == record::segment(me_)) {
    throw Finding(
        fmt::format("{} {} memory that the same call {} elsewhere", name(operand), does, other_does));
  }
  if (history_.is_ordered(segment)) return;
  throw Finding(fmt::format("{} is ordered by no event or synchronisation after {}, which {} the same memory",
                            name(operand), history_.name(segment), other_does));
}

void Accesses::check_write(const Range& range, const char* operand) const {
  Shadow& shadow = *range.allocation.shadow;
  for (size_t cell = range.first; cell < range.last; ++cell) {
    const Record writer = shadow.writers()[cell], reader = shadow.readers()[cell];
    if (writer >= ordered_end_) check_order(writer, "writes", "writes", operand);
    if (reader >= ordered_end_) check_order(reader, "reads", "writes", operand);
  }
}

const std::byte* Accesses::read(uint64_t address, size_t bytes, Reading reading, const char* operand) {
  const Range at = range(address, bytes, operand);
  Shadow& shadow = *at.allocation.shadow;
  for (size_t cell = at.first; cell < at.last; ++cell) {
    const Record writer = shadow.writers()[cell];
    if (writer == 0 && reading != Reading::kAnything) {
      throw Finding(fmt::format(
          "{} reads uninitialised global memory at {}", name(operand),
          DeviceMemory::instance().describe(at.allocation.address + (cell << shadow.cell_shift()))));
    }
    if (writer >= ordered_end_) check_order(writer, "writes", "reads", operand);
    if (reading != Reading::kInPlace) shadow.readers()[cell] = me_;
  }
  return at.allocation.storage.get() + at.offset;
}

std::byte* Accesses::write(uint64_t address, size_t bytes, const char* operand) {
  const Range at = range(address, bytes, operand);
  check_write(at, operand);
  at.allocation.shadow->fill(at.offset, bytes, me_);
  return at.allocation.storage.get() + at.offset;
}

void Accesses::copy(uint64_t to, uint64_t from, size_t bytes) {
  const std::byte* source = read(from, bytes, Reading::kAnything);
  const Range target = range(to, bytes, nullptr);
  check_write(target, nullptr);
  std::memmove(target.allocation.storage.get() + target.offset, source, bytes);
  const Allocation& origin = allocation_of(from, bytes, what_);
  target.allocation.shadow->copy(target.offset, *origin.shadow, from - origin.address, bytes, me_);
}

}  // namespace kiln::emulator
