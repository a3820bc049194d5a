// The hashes of documents seen so far.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace kiln::data {

// 128 bits, from XXH3: among a billion documents two different ones share one with a chance of 1.5e-21.
using DocumentHash = std::array<uint64_t, 2>;

// Open addressing, between 0.35 and 0.7 full: 23 to 46 bytes a document, and half as much again while it
// grows.
class HashSet {
 public:
  HashSet() : slots_(1024) {}

  // False when it was there already. {0, 0} counts as {0, 1}.
  bool insert(DocumentHash hash) {
    if (hash == DocumentHash{}) hash[1] = 1;
    DocumentHash& slot = find(hash);
    if (slot == hash) return false;
    slot = hash;
    if (++size_ * 10 > slots_.size() * 7) grow();
    return true;
  }

 private:
  DocumentHash& find(const DocumentHash& hash) {  // its slot, or the empty one where it belongs
    size_t i = hash[0] & (slots_.size() - 1);
    while (slots_[i] != hash && slots_[i] != DocumentHash{}) i = (i + 1) & (slots_.size() - 1);
    return slots_[i];
  }

  void grow() {
    std::vector<DocumentHash> old(2 * slots_.size());
    old.swap(slots_);
    for (const auto& hash : old) {
      if (hash != DocumentHash{}) find(hash) = hash;
    }
  }

  std::vector<DocumentHash> slots_;
  size_t size_ = 0;
};

}  // namespace kiln::data
