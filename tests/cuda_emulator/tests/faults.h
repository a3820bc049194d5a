// Kernels with one planted fault each; the line of the fault carries a comment with its name.
#pragma once

#include <cuda_runtime_api.h>

namespace kiln::emulator::testing {

// Launches the kernel on the default stream. `memory` holds 4096 floats, all written; `fresh` as many that nobody wrote.
void launch_fault(const char* name, float* memory, float* fresh, const float* host_memory);

void launch_fill(float* to, float value, int count, cudaStream_t stream);  // faultless
void launch_grid(float* to, dim3 grid);  // faultless, writes nothing
// Raises the limit of launch_many_threads, and of a kernel with 256 bytes of static shared memory.
cudaError_t allow_shared(int bytes);
cudaError_t allow_shared_beside_static(int bytes);
void launch_many_threads(float* to, int threads, int shared_bytes);  // faultless, where the limits are kept
void launch_bounded(float* to, int threads);                         // __launch_bounds__(64)

}  // namespace kiln::emulator::testing
