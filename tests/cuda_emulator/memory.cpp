#include "tests/cuda_emulator/memory.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/cuda_emulator/findings.h"

namespace kiln::emulator {

namespace {

constexpr uint64_t kDeviceBytes = uint64_t{1} << 38;  // of addresses

// Addresses that nothing can be read from or written to.
uint64_t reserve(uint64_t bytes) {
  void* at = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) {
    std::perror("CUDA emulator: reserving addresses");
    std::abort();
  }
  return reinterpret_cast<uint64_t>(at);
}

uint64_t windows() {
  static const uint64_t base = reserve(3 * kWindowBytes);
  return base;
}

void on_fault(int signal, siginfo_t* info, void*) {
  const uint64_t address = reinterpret_cast<uint64_t>(info->si_addr);
  char text[300];
  int length = 0;
  if (DeviceMemory::instance().is_device(address)) {
    const Allocation* near = DeviceMemory::instance().near(address);
    length =
        std::snprintf(text, sizeof text,
                      "\nCUDA emulator: host code follows a device pointer (into allocation %d, byte %llu)\n",
                      near == nullptr ? 0 : near->number,
                      static_cast<unsigned long long>(near == nullptr ? 0 : address - near->address));
  } else {
    length = std::snprintf(text, sizeof text, "\nCUDA emulator: signal %d at host address %p\n", signal,
                           info->si_addr);
  }
  if (write(2, text, static_cast<size_t>(length)) < 0) _exit(kFindingExit + 1);
  _exit(kFindingExit);
}

}  // namespace

DeviceMemory& DeviceMemory::instance() {
  static DeviceMemory* memory = new DeviceMemory;  // lives until the very end: leaks are reported after main
  return *memory;
}

DeviceMemory::DeviceMemory() : base_(reserve(kDeviceBytes)), size_(kDeviceBytes), next_(base_) {
  const size_t table = (kDeviceBytes >> kPageShift) * sizeof(uint32_t);
  void* pages =
      mmap(nullptr, table, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) {
    std::perror("CUDA emulator: the table of allocations");
    std::abort();
  }
  pages_ = static_cast<uint32_t*>(pages);
  const char* asked = std::getenv("KILN_EMULATOR_MEMORY_MIB");
  total_ = (asked == nullptr ? 4096 : std::strtoull(asked, nullptr, 10)) << 20;
  install_fault_handler();
}

Allocation* DeviceMemory::allocate(size_t bytes, bool internal, uint64_t alignment) {
  const uint64_t page = uint64_t{1} << kPageShift;
  // The pages of the gap belong to the allocation before it.
  const uint64_t address = align_no_better(align_up(next_, page), alignment);
  const uint64_t end = align_up<uint64_t>(address + std::max<size_t>(bytes, 1), page);
  const uint64_t next = end + std::max(page, align_up<uint64_t>(bytes, page));
  if (bytes > free_bytes() || next > base_ + size_) return nullptr;
  auto made = std::make_unique<Allocation>();
  made->address = address;
  made->bytes = bytes;
  made->internal = internal;
  made->number = internal ? 0 : ++count_;
  made->storage = std::make_unique_for_overwrite<std::byte[]>(bytes);
  std::memset(made->storage.get(), 0xff, bytes);
  made->shadow = std::make_unique<Shadow>(bytes);
  allocations_.push_back(std::move(made));
  const uint32_t index = static_cast<uint32_t>(allocations_.size());
  for (uint64_t at = next_; at < next; at += page) pages_[(at - base_) >> kPageShift] = index;
  next_ = next;
  used_ += bytes;
  return allocations_.back().get();
}

void DeviceMemory::release(Allocation& allocation) {
  allocation.freed = true;
  allocation.storage.reset();
  allocation.shadow.reset();
  used_ -= allocation.bytes;
}

Allocation* DeviceMemory::near(uint64_t address) {
  if (!is_device(address)) return nullptr;
  const uint32_t index = pages_[(address - base_) >> kPageShift];
  return index == 0 ? nullptr : allocations_[index - 1].get();
}

std::string DeviceMemory::describe(uint64_t address) {
  if (address < 4096) return fmt::format("{:#x}, a null pointer", address);
  if (!is_device(address)) return fmt::format("{:#x}, a host address", address);
  const Allocation* found = near(address);
  if (found == nullptr) return "a device address far from every allocation";
  const std::string which = found->internal
                                ? fmt::format("a module's variable of {} bytes", found->bytes)
                                : fmt::format("{}allocation {} ({} bytes)", found->freed ? "freed " : "",
                                              found->number, found->bytes);
  if (address < found->address) return fmt::format("{} bytes before {}", found->address - address, which);
  if (address < found->address + found->bytes)
    return fmt::format("byte {} of {}", address - found->address, which);
  return fmt::format("{} bytes after the end of {}", address - found->address - found->bytes, which);
}

std::vector<const Allocation*> DeviceMemory::leaked() const {
  std::vector<const Allocation*> found;
  for (const auto& each : allocations_) {
    if (!each->freed && !each->internal) found.push_back(each.get());
  }
  return found;
}

uint64_t window_base(Space space) {
  switch (space) {
    case Space::kShared:
      return windows();
    case Space::kLocal:
      return windows() + kWindowBytes;
    case Space::kParam:
      return windows() + 2 * kWindowBytes;
    default:
      return 0;
  }
}

Space space_of(uint64_t address) {
  const uint64_t offset = address - windows();
  if (offset < kWindowBytes) return Space::kShared;
  if (offset < 2 * kWindowBytes) return Space::kLocal;
  return offset < 3 * kWindowBytes ? Space::kParam : Space::kGlobal;
}

void install_fault_handler() {
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace kiln::emulator
