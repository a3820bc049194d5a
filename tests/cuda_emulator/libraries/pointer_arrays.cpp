#include "tests/cuda_emulator/libraries/pointer_arrays.h"

#include <cstring>

#include "tests/cuda_emulator/libraries/blas_common.h"

namespace kiln::emulator {

std::vector<uint64_t> load_pointers(Accesses& accesses, uint64_t address, int64_t count, size_t alignment,
                                    const char* name) {
  std::vector<uint64_t> pointers(static_cast<size_t>(count));
  const size_t bytes = pointers.size() * sizeof(uint64_t);
  std::memcpy(pointers.data(), accesses.read(address, bytes, Reading::kWritten, name), bytes);
  for (size_t i = 0; i < pointers.size(); ++i)
    require_device_pointer(pointers[i], 1, alignment, fmt::format("pointer {} of the array {}", i, name));
  return pointers;
}

}  // namespace kiln::emulator
