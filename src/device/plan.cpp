#include "src/device/plan.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "src/core/error.h"
#include "src/device/cuda.h"
#include "src/device/memory.h"

namespace kiln {
namespace {

size_t aligned(size_t bytes) {
  return (bytes + Plan::kAlignment - 1) / Plan::kAlignment * Plan::kAlignment;
}

bool meet(const Lifetime& a, const Lifetime& b) {
  return a.first <= b.last && b.first <= a.last;
}

// First fit, largest buffer first: the classic heuristic for packing intervals; ties keep the order of
// addition.
size_t place_category(const std::vector<PlanEntry>& entries, std::vector<size_t> ids, size_t base,
                      std::vector<size_t>& offsets) {
  std::stable_sort(ids.begin(), ids.end(),
                   [&](size_t a, size_t b) { return entries[a].bytes > entries[b].bytes; });
  std::vector<size_t> placed;
  size_t height = 0;
  for (size_t id : ids) {
    std::vector<std::pair<size_t, size_t>> taken;  // begin, end of buffers alive at the same time
    for (size_t other : placed) {
      if (meet(entries[id].lifetime, entries[other].lifetime)) {
        taken.emplace_back(offsets[other], offsets[other] + aligned(entries[other].bytes));
      }
    }
    std::sort(taken.begin(), taken.end());
    size_t at = base;
    for (const auto& [begin, end] : taken) {
      if (at + aligned(entries[id].bytes) <= begin) break;
      at = std::max(at, end);
    }
    offsets[id] = at;
    placed.push_back(id);
    height = std::max(height, at - base + aligned(entries[id].bytes));
  }
  return height;
}

// One mapping: it starts as zeros, and pages that are never touched cost nothing.
void* map_zeros(size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}
void unmap(void* memory, size_t bytes) {
  ::munmap(memory, bytes);
}

// From the heap, where sanitizers put red zones around each buffer.
void* heap_zeros(size_t bytes) {
  void* memory = ::operator new (bytes, std::align_val_t{Plan::kAlignment}, std::nothrow);
  if (memory) std::memset(memory, 0, bytes);
  return memory;
}
void free_heap(void* memory, size_t) {
  ::operator delete (memory, std::align_val_t{Plan::kAlignment});
}

void free_cuda(void* memory, size_t) {
  cuda_release(memory);
}

}  // namespace

std::string_view name_of(Category category) {
  static constexpr std::string_view kNames[kCategories] = {"parameters", "master weights",  "packed weights",
                                                           "gradients",  "optimizer state", "activations",
                                                           "batches",    "workspace"};
  return kNames[static_cast<size_t>(category)];
}

BufferId Plan::add(std::string name, Category category, size_t bytes, Lifetime lifetime) {
  require(lifetime.first <= lifetime.last, "a buffer's lifetime ends before it begins");
  entries_.push_back({std::move(name), category, bytes, lifetime});
  return static_cast<BufferId>(entries_.size() - 1);
}

Plan::Layout Plan::layout() const {
  Layout layout;
  layout.offsets.resize(entries_.size());
  for (int c = 0; c < kCategories; c++) {
    std::vector<size_t> ids;
    for (size_t i = 0; i < entries_.size(); i++) {
      if (entries_[i].category == static_cast<Category>(c)) ids.push_back(i);
    }
    layout.category_bytes[c] = place_category(entries_, std::move(ids), layout.total_bytes, layout.offsets);
    layout.total_bytes += layout.category_bytes[c];
  }
  return layout;
}

Arena::Source Arena::source_of(ArenaMode mode, const Device& device) {
  if (device.kind == DeviceKind::cuda) return {cuda_allocate_zeroed, free_cuda};
  return mode == ArenaMode::slab ? Source{map_zeros, unmap} : Source{heap_zeros, free_heap};
}

Arena::Arena(const Plan& plan, ArenaMode mode, const Device& device) : source_(source_of(mode, device)) {
  const Plan::Layout layout = plan.layout();
  pointers_.resize(plan.entries().size(), nullptr);
  require_memory(layout, device);
  try {
    if (mode == ArenaMode::slab ? allocate_slab(plan, layout) : allocate_each(plan)) return;
    throw OutOfMemory(layout,
                      device.kind == DeviceKind::cpu ? "the system refuses it" : "the GPU refuses it");
  } catch (...) {
    release();  // of what was never constructed no destructor is called
    throw;
  }
}

bool Arena::allocate_slab(const Plan& plan, const Plan::Layout& layout) {
  if (layout.total_bytes == 0) return true;
  slab_ = source_.allocate(layout.total_bytes);
  if (!slab_) return false;
  allocated_bytes_ = layout.total_bytes;
  for (size_t i = 0; i < pointers_.size(); i++) {
    if (plan.entries()[i].bytes) pointers_[i] = static_cast<char*>(slab_) + layout.offsets[i];
  }
  return true;
}

bool Arena::allocate_each(const Plan& plan) {
  for (size_t i = 0; i < pointers_.size(); i++) {
    const size_t bytes = plan.entries()[i].bytes;
    if (bytes == 0) continue;
    pointers_[i] = source_.allocate(bytes);
    if (!pointers_[i]) return false;
    allocated_bytes_ += bytes;
  }
  return true;
}

void Arena::release() {
  if (slab_) {
    source_.release(slab_, allocated_bytes_);
    return;
  }
  for (void* p : pointers_) {
    if (p) source_.release(p, 0);
  }
}

Arena::~Arena() {
  release();
}

std::string bytes_text(size_t bytes) {
  const char* unit = "MiB";
  double amount = static_cast<double>(bytes) / (1 << 20);
  for (const char* larger : {"GiB", "TiB", "PiB"}) {
    if (amount < 10'000) break;
    amount /= 1024;
    unit = larger;
  }
  return fmt::format("{:.2f} {}", amount, unit);
}

std::string describe(const Plan::Layout& layout) {
  std::string text;
  for (int c = 0; c < kCategories; c++) {
    if (layout.category_bytes[c] == 0) continue;
    text += fmt::format("  {:<16} {:>14}\n", name_of(static_cast<Category>(c)),
                        bytes_text(layout.category_bytes[c]));
  }
  return text + fmt::format("  {:<16} {:>14}", "total", bytes_text(layout.total_bytes));
}

}  // namespace kiln
