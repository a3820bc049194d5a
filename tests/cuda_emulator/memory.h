// The memory of the emulated device.
//
// Addresses are taken from ranges that are reserved but never readable, so that host code which follows a device
// pointer faults; the bytes themselves lie elsewhere. Every allocation stands alone: at least 64 KiB to either side and as
// much as it is long after it belong to nobody, and no address is ever used twice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/cuda_emulator/program.h"
#include "tests/cuda_emulator/shadow.h"

namespace kiln::emulator {

struct Allocation {
  uint64_t address = 0;
  size_t bytes = 0;
  int number = 0;  // counted from 1, for messages
  bool freed = false;
  bool internal = false;  // a variable of a module: never freed
  std::unique_ptr<std::byte[]> storage;
  std::unique_ptr<Shadow> shadow;

  bool holds(uint64_t at, size_t count) const { return at >= address && at - address + count <= bytes; }
};

class DeviceMemory {
 public:
  static DeviceMemory& instance();

  // Filled with 0xff, which is NaN in every format. Null where the device is full.
  // Aligned so and no better; cudaMalloc promises 256 bytes.
  Allocation* allocate(size_t bytes, bool internal = false, uint64_t alignment = 256);
  void release(Allocation& allocation);

  // The allocation, alive or freed, that `address` lies in or after, up to the next one; null far from all.
  Allocation* near(uint64_t address);
  bool is_device(uint64_t address) const { return address - base_ < size_; }
  // "8 bytes after the end of allocation 3 (400 bytes)"; "a host address".
  std::string describe(uint64_t address);

  size_t total_bytes() const { return total_; }
  size_t free_bytes() const { return total_ - used_; }
  std::vector<const Allocation*> leaked() const;

 private:
  DeviceMemory();

  static constexpr int kPageShift = 16;
  uint64_t base_ = 0, size_ = 0, next_ = 0;
  size_t total_ = 0, used_ = 0;
  int count_ = 0;
  uint32_t* pages_ = nullptr;  // index into allocations_ plus 1 of what owns each 64 KiB of addresses
  std::vector<std::unique_ptr<Allocation>> allocations_;
};

// Generic addresses of a thread's own windows: its block's shared memory, its local memory, the kernel's parameters.
constexpr uint64_t kWindowBytes = uint64_t{1} << 28;
uint64_t window_base(Space space);
// The space that a generic address belongs to; global for everything else.
Space space_of(uint64_t address);

// Faults of host code: prints which device pointer was followed, and ends the process.
void install_fault_handler();

}  // namespace kiln::emulator
