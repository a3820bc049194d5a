// Global memory as an operation sees it that is no kernel: a copy, a fill, what a library computes. The whole operation
// counts as one access from one place, as if by one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/cuda_emulator/memory.h"
#include "tests/cuda_emulator/streams.h"

namespace kiln::emulator {

// The live allocation that holds all of the bytes; a finding if none does. `what` is done there: "a memset".
Allocation& allocation_of(uint64_t address, size_t bytes, const std::string& what);

enum class Reading {
  kAnything,  // what was never written too
  kWritten,   // only what was written
  kInPlace,   // only what was written, and the operation may write it afterwards
};

class Accesses {
 public:
  // Notes that the operation starts. `what` it is called in findings.
  Accesses(const Operation& operation, std::string what);

  // What the operation reads or writes, or a finding: out of bounds, never written, not ordered after others' accesses,
  // or read and written by the operation itself. `operand` is its part in the operation, for findings.
  const std::byte* read(uint64_t address, size_t bytes, Reading reading, const char* operand = nullptr);
  std::byte* write(uint64_t address, size_t bytes, const char* operand = nullptr);

  // Bytes between allocations; those that were never written at `from` count as never written at `to`.
  void copy(uint64_t to, uint64_t from, size_t bytes);

 private:
  struct Range {
    Allocation& allocation;
    size_t offset, first, last;  // of cells
  };
  std::string name(const char* operand) const;
  Range range(uint64_t address, size_t bytes, const char* operand) const;
  void check_order(Record other, const char* other_does, const char* does, const char* operand) const;
  void check_write(const Range& range, const char* operand) const;

  History history_;
  std::string what_;
  Record ordered_end_, me_;
};

}  // namespace kiln::emulator
