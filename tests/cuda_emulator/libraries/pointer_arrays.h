// Batches that are given by arrays of pointers, which lie on the device themselves.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/cuda_emulator/accesses.h"

namespace kiln::emulator {

// The pointers, each one checked to be an aligned device pointer.
std::vector<uint64_t> load_pointers(Accesses& accesses, uint64_t address, int64_t count, size_t alignment,
                                    const char* name);

}  // namespace kiln::emulator
