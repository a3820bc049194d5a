#include "tests/cuda_emulator/copies.h"

#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>

#include "tests/cuda_emulator/accesses.h"
#include "tests/cuda_emulator/findings.h"

namespace kiln::emulator {

namespace {

struct Pinned {
  size_t bytes;
  bool allocated;  // here, not only registered
};

std::map<uint64_t, Pinned>& pinned() {
  static auto* all = new std::map<uint64_t, Pinned>;
  return *all;
}

uint64_t address_of(const void* pointer) {
  return reinterpret_cast<uint64_t>(pointer);
}

bool is_device(const void* pointer) {
  return DeviceMemory::instance().is_device(address_of(pointer));
}

void run_copy(const Operation& operation, void* to, const void* from, size_t bytes, const std::string& what) {
  Accesses accesses(operation, what);
  if (is_device(to) && is_device(from)) {
    accesses.copy(address_of(to), address_of(from), bytes);
  } else if (is_device(to)) {
    std::memcpy(accesses.write(address_of(to), bytes), from, bytes);
  } else if (is_device(from)) {
    std::memcpy(to, accesses.read(address_of(from), bytes, Reading::kAnything), bytes);
  } else {
    std::memcpy(to, from, bytes);
  }
}

void require_kind(const void* pointer, bool device, const char* which, const std::string& what) {
  if (is_device(pointer) == device) return;
  throw Finding(fmt::format("{}: the {} is a {} pointer", what, which, device ? "host" : "device"));
}

}  // namespace

void add_copy(Stream* stream, void* to, const void* from, size_t bytes, CopyKind kind, bool returns_early) {
  if (bytes == 0) return;
  constexpr const char* kNames[] = {"host to host", "host to device", "device to host", "device to device"};
  if (kind == CopyKind::kAny)
    kind = static_cast<CopyKind>((is_device(to) ? 1 : 0) + (is_device(from) ? 2 : 0));
  const bool to_device = kind == CopyKind::kHostToDevice || kind == CopyKind::kDeviceToDevice;
  const bool from_device = kind == CopyKind::kDeviceToHost || kind == CopyKind::kDeviceToDevice;
  const std::string what = fmt::format("a copy {}", kNames[static_cast<int>(kind)]);
  require_kind(to, to_device, "destination", what);
  require_kind(from, from_device, "source", what);
  if (to_device) allocation_of(address_of(to), bytes, what);
  if (from_device) allocation_of(address_of(from), bytes, what);
  std::shared_ptr<std::vector<std::byte>> staged;
  if (returns_early && !from_device && !is_pinned(from, bytes)) {
    const std::byte* begin = static_cast<const std::byte*>(from);
    staged = std::make_shared<std::vector<std::byte>>(begin, begin + bytes);
  }
  const auto operation = Streams::instance().add(stream, what, [=](const Operation& self) {
    run_copy(self, to, staged ? staged->data() : from, bytes, what);
  });
  const bool blocks = !returns_early || (!to_device && !is_pinned(to, bytes));
  if (blocks) {
    Streams::instance().wait_for(operation);
    return;
  }
  if (!to_device) Streams::instance().note_host_memory(*operation, to, bytes);
  if (!from_device && !staged) Streams::instance().note_host_memory(*operation, from, bytes);
}

void add_fill(Stream* stream, void* to, int value, size_t bytes) {
  if (bytes == 0) return;
  const std::string what = "a memset";
  require_kind(to, true, "destination", what);
  allocation_of(address_of(to), bytes, what);
  Streams::instance().add(stream, what, [=](const Operation& self) {
    std::memset(Accesses(self, what).write(address_of(to), bytes), value, bytes);
  });
}

void require_unused(const void* memory, const char* call) {
  const auto found = pinned().find(address_of(memory));
  if (found == pinned().end()) return;
  const std::string user = Streams::instance().pending_on(memory, found->second.bytes);
  if (!user.empty())
    throw Finding(fmt::format("{} of memory that {} uses, which the host has not waited for", call, user));
}

void* allocate_pinned(size_t bytes) {
  const size_t whole = (bytes + 4095) / 4096 * 4096;
  void* memory = std::aligned_alloc(4096, whole == 0 ? 4096 : whole);
  if (memory != nullptr) pinned()[address_of(memory)] = {bytes, true};
  return memory;
}

bool release_pinned(void* memory) {
  const auto found = pinned().find(address_of(memory));
  if (found == pinned().end() || !found->second.allocated) return false;
  pinned().erase(found);
  std::free(memory);
  return true;
}

void register_pinned(void* memory, size_t bytes) {
  pinned()[address_of(memory)] = {bytes, false};
}

bool unregister_pinned(void* memory) {
  const auto found = pinned().find(address_of(memory));
  if (found == pinned().end() || found->second.allocated) return false;
  pinned().erase(found);
  return true;
}

bool is_pinned(const void* memory, size_t bytes) {
  const auto after = pinned().upper_bound(address_of(memory));
  if (after == pinned().begin()) return false;
  const auto& [begin, entry] = *std::prev(after);
  return address_of(memory) + bytes <= begin + entry.bytes;
}

size_t pinned_count() {
  size_t count = 0;
  for (const auto& [address, entry] : pinned()) count += entry.allocated ? 1 : 0;
  return count;
}

}  // namespace kiln::emulator
