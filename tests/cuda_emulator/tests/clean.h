// Correct kernels in unlike styles, none of which may raise an alarm.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace kiln::emulator::testing {

void copy_vectors(float* out, const float* in, int n);                     // float4 and a scalar tail
void saxpy_strided(float* y, const float* x, float a, int n);              // grid-stride loop
void transpose_tiles(float* out, const float* in, int rows, int columns);  // padded shared tile, ragged edges
void reduce_tree(float* out, const float* in, int n);                  // shared memory tree, one sum a block
void reduce_shuffles(float* out, const float* in, int n);              // warp sums, then one warp
void reduce_atomics(float* out, const float* in, int n);               // atomicAdd of a block's sum
void histogram(unsigned* bins, const uint8_t* in, int n);              // shared atomics, 256 bins
void scan_block(int* out, const int* in, int n);                       // double-buffered inclusive scan
void multiply_naive(float* c, const float* a, const float* b, int n);  // one thread an element
void multiply_tiles(float* c, const float* a, const float* b, int n);  // two tiles of 16x16, dynamic shared
void multiply_registers(float* c, const float* a, const float* b, int n);  // 4x4 elements a thread
void softmax_rows(float* out, const float* in, int rows, int columns);     // online maximum, expf
void stencil(float* out, const float* in, int n);                          // halo in shared memory
void producer_consumer(float* out, const float* in, int n);          // warps that load, warps that compute
void bytes_of_others(uint8_t* out, int n);                           // one byte a thread, odd and even apart
void halves_of_words(uint16_t* out, int n);                          // one 16-bit number a thread
void compact(int* out, int* count, const int* in, int n);            // ballot, popc and one atomic a warp
void reverse_by_pipeline(float* out, const float* in, int tiles);    // cp.async, three stages
void apply_functor(float* out, const float* in, int n, int which);   // templates and a switch
void warp_halves(float* out, const float* in);                       // __syncwarp of half warps
void brain_gelu(uint16_t* out, const uint16_t* in, int n);           // bf16 pairs, erff
void struct_by_value(float* out, int n);                             // parameters in a struct with an array
void sort_bitonic(int* values, int n);                               // one block, many barriers
void last_rows(float* out, const float* in, int rows, int columns);  // whole blocks leave early
void random_numbers(uint32_t* out, int n, uint32_t seed);            // Philox, mul.hi

}  // namespace kiln::emulator::testing
