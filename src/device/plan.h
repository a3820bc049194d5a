// Memory is planned, then allocated: every room adds what it needs to a Plan; an Arena allocates exactly
// that; nothing else is allocated while a run steps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/device/device.h"

namespace kiln {

enum class Category : uint8_t {
  parameters,       // weights in the precision that kernels read
  master_weights,   // fp32 copies that the optimizer updates, where the weights are bf16
  packed_weights,   // weights rearranged for the GEMM library, once per optimizer step
  gradients,        // fp32
  optimizer_state,  // momenta, second moments, factors, bases
  activations,      // kept from forward to backward, and the gradients that flow back
  batches,          // token ids and targets
  workspace,        // scratch that lives inside one kernel call
};
inline constexpr int kCategories = 8;
std::string_view name_of(Category category);

// When a buffer holds something that matters, in ticks of a clock that the caller chooses (for a model: one
// tick per kernel call of a forward and backward pass). Buffers of one category whose intervals do not meet
// share memory.
struct Lifetime {
  int first = 0, last = INT32_MAX;  // inclusive; the default is the whole run
  bool operator==(const Lifetime&) const = default;
};

using BufferId = int;

struct PlanEntry {
  std::string name;
  Category category;
  size_t bytes;  // as asked for; the layout rounds each up to kAlignment
  Lifetime lifetime;
};

class Plan {
 public:
  static constexpr size_t kAlignment =
      128;  // of every buffer: two cache lines, and what CUDA vector loads want

  // Zero bytes are allowed: the buffer then is a null pointer.
  BufferId add(std::string name, Category category, size_t bytes, Lifetime lifetime = {});

  const std::vector<PlanEntry>& entries() const { return entries_; }

  // Where each buffer lies when all share one slab, and what each category occupies there; categories follow
  // each other, so the sum over categories is the whole slab.
  struct Layout {
    std::vector<size_t> offsets;
    size_t category_bytes[kCategories] = {};
    size_t total_bytes = 0;
  };
  Layout layout() const;

 private:
  std::vector<PlanEntry> entries_;
};

enum class ArenaMode : uint8_t {
  slab,      // one allocation
  discrete,  // every buffer its own allocation (no sharing), so that sanitizers and emulators see overruns
};

class Arena {
 public:
  // Memory of `device`, zeros to begin with. Throws Error(ExitCode::failure) with the plan by category when the
  // system or the GPU refuses it.
  Arena(const Plan& plan, ArenaMode mode, const Device& device);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  template <class T>
  T* at(BufferId id) const {
    return static_cast<T*>(pointers_[static_cast<size_t>(id)]);
  }
  size_t allocated_bytes() const { return allocated_bytes_; }

 private:
  // How memory of one kind is got, null when it is refused, and given back.
  struct Source {
    void* (*allocate)(size_t bytes);
    void (*release)(void* memory, size_t bytes);
  };
  static Source source_of(ArenaMode mode, const Device& device);

  // Each returns false when the memory is refused.
  bool allocate_slab(const Plan& plan, const Plan::Layout& layout);
  bool allocate_each(const Plan& plan);
  void release();

  Source source_;
  std::vector<void*> pointers_;
  void* slab_ = nullptr;
  size_t allocated_bytes_ = 0;
};

std::string bytes_text(size_t bytes);  // "12.30 MiB"; GiB and above from 10000 of the smaller unit on

// "parameters 12.3 MiB" lines and a total, for start-up blocks and error messages.
std::string describe(const Plan::Layout& layout);

}  // namespace kiln
