#include "tests/cuda_emulator/tests/faults.h"

#include <cstring>

namespace kiln::emulator::testing {

namespace {

__global__ void read_beyond(float* m) {
  const float v = m[4096 + threadIdx.x];  // read_beyond
  if (v == 1) m[threadIdx.x] = v;
}

__global__ void write_beyond(float* m, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i <= n) m[i] = 1;  // write_beyond
}

__global__ void write_before(float* m) {
  m[static_cast<int>(threadIdx.x) - 1] = 1;  // write_before
}

__global__ void null_pointer(float* m) {
  m[threadIdx.x] = 1;  // null_pointer
}

__global__ void shared_beyond(float* m) {
  __shared__ float t[64];
  t[threadIdx.x] = 1;
  __syncthreads();
  m[threadIdx.x] = t[threadIdx.x + 1];  // shared_beyond
}

__global__ void shared_into_next(float* m) {
  __shared__ float a[64], b[64];
  a[threadIdx.x + (m[0] > 0 ? 1 : 2)] = 1;  // shared_into_next
  b[threadIdx.x] = 2;
  __syncthreads();
  m[threadIdx.x] = a[63 - threadIdx.x] + b[63 - threadIdx.x];
}

__global__ void dynamic_beyond(float* m) {
  extern __shared__ float dynamic[];
  dynamic[threadIdx.x] = 1;  // dynamic_beyond
  __syncthreads();
  m[threadIdx.x] = dynamic[blockDim.x - 1 - threadIdx.x];
}

__global__ void local_beyond(float* m) {
  float local[8];
  for (int i = 0; i < 8; ++i) local[i] = m[i];
  m[threadIdx.x] = local[static_cast<int>(m[9]) + 1000 + threadIdx.x];  // local_beyond
}

__global__ void misaligned(float* m) {
  *reinterpret_cast<float4*>(m + 1) = make_float4(0, 1, 2, 3);  // misaligned
}

__global__ void misaligned_read(float* m) {
  const float2 v = *reinterpret_cast<const float2*>(m + 1 + 2 * threadIdx.x);  // misaligned_read
  m[1024 + threadIdx.x] = v.x + v.y;
}

__global__ void misaligned_shared_read(float* m) {
  __shared__ __align__(16) float t[64];
  t[threadIdx.x] = m[threadIdx.x];
  t[threadIdx.x + 32] = 0;
  __syncwarp();
  const float4 v = *reinterpret_cast<const float4*>(t + 8 + (threadIdx.x & 1));  // misaligned_shared_read
  m[1024 + threadIdx.x] = v.x + v.w;
}

__global__ void weak_shared(float* m) {
  __shared__ float t[128];  // promises 4 bytes
  t[threadIdx.x] = m[threadIdx.x];
  __syncwarp();
  const float4 v = *reinterpret_cast<const float4*>(t + 4 * (threadIdx.x % 8));  // weak_shared
  m[1024 + threadIdx.x] = v.x + v.y + v.z + v.w;
}

__device__ float weak_table[128];

__global__ void weak_variable(float* m) {
  const float4 v = *reinterpret_cast<const float4*>(weak_table + 4 * threadIdx.x);  // weak_variable
  m[threadIdx.x] = v.x + v.y + v.z + v.w;
}

struct Eight {
  float values[8];
};

__global__ void parameter_beyond(float* m, const __grid_constant__ Eight eight) {
  const float* values = eight.values;
  m[threadIdx.x] = values[threadIdx.x];  // parameter_beyond
}

__global__ void parameter_into_next(float* m, const __grid_constant__ Eight eight,
                                    const __grid_constant__ Eight next) {
  const float* values = eight.values;
  m[threadIdx.x] = values[threadIdx.x] + next.values[0];  // parameter_into_next
}

__global__ void uninitialised_global(float* m, const float* fresh) {
  m[threadIdx.x] = fresh[threadIdx.x];  // uninitialised_global
}

__global__ void uninitialised_tail(float* m, float* fresh) {
  if (threadIdx.x < 31) fresh[threadIdx.x] = 1;
  __syncwarp();
  m[threadIdx.x] = fresh[31 - threadIdx.x];  // uninitialised_tail
}

__global__ void uninitialised_shared(float* m) {
  __shared__ float t[64];
  if (threadIdx.x < 63) t[threadIdx.x] = 1;
  __syncthreads();
  m[threadIdx.x] = t[threadIdx.x];  // uninitialised_shared
}

__global__ void missing_syncthreads(float* m) {
  __shared__ float t[128];
  t[threadIdx.x] = m[threadIdx.x];
  m[threadIdx.x] = t[127 - threadIdx.x];  // missing_syncthreads
}

__global__ void missing_second_syncthreads(float* m) {
  __shared__ float t[64];
  for (int i = 0; i < 4; ++i) {
    t[threadIdx.x] = m[64 * i + threadIdx.x];  // missing_second_syncthreads
    __syncthreads();
    m[1024 + 64 * i + threadIdx.x] = t[63 - threadIdx.x];
  }
}

__global__ void missing_syncwarp(float* m) {
  __shared__ float t[32];
  t[threadIdx.x] = m[threadIdx.x];
  m[threadIdx.x] = t[31 - threadIdx.x];  // missing_syncwarp
}

__global__ void syncwarp_of_half(float* m) {
  __shared__ float t[32];
  t[threadIdx.x] = m[threadIdx.x];
  __syncwarp(threadIdx.x < 16 ? 0x0000ffffu : 0xffff0000u);
  m[threadIdx.x] = t[31 - threadIdx.x];  // syncwarp_of_half
}

__global__ void race_in_block(float* m) {
  if (threadIdx.x % 32 == 0) m[0] = threadIdx.x;  // race_in_block
}

__global__ void race_in_warp(float* m) {
  m[threadIdx.x / 2] = threadIdx.x;  // race_in_warp
}

__global__ void race_of_volatile(float* m) {
  volatile float* v = m;
  v[threadIdx.x] = threadIdx.x;
  v[256 + threadIdx.x] = v[31 - threadIdx.x];  // race_of_volatile
}

__device__ __noinline__ float apart(float x) {
  return x * x + 1;
}
__global__ void device_function(float* m) {
  m[threadIdx.x] = apart(m[threadIdx.x]);  // device_function
}

__global__ void race_between_blocks(float* m) {
  if (threadIdx.x == 0) m[0] += 1;  // race_between_blocks
}

__global__ void read_of_other_block(float* m) {
  m[blockIdx.x * 32 + threadIdx.x] = 2;
  __syncthreads();
  const int other = (blockIdx.x + 1) % 2;
  m[2048 + blockIdx.x * 32 + threadIdx.x] = m[other * 32 + threadIdx.x];  // read_of_other_block
}

__global__ void atomic_and_plain(float* m) {
  atomicAdd(m, 1.0f);
  if (threadIdx.x == 0) m[100 + blockIdx.x] = m[0];  // atomic_and_plain
}

__global__ void atomics_of_blocks(float* m) {
  atomicAdd_block(m, 1.0f);  // atomics_of_blocks
}

__global__ void atomic_of_one_block(float* m) {
  if (blockIdx.x == 0) {
    atomicAdd_block(m, 1.0f);
  } else {
    atomicAdd(m, 1.0f);  // atomic_of_one_block
  }
}

__global__ void divergent_barrier(float* m) {
  if (threadIdx.x < 40) {
    m[threadIdx.x] += 1;
    __syncthreads();
  } else {
    m[threadIdx.x] += 2;
    __syncthreads();  // divergent_barrier
  }
}

__global__ void barrier_of_some(float* m) {
  if (threadIdx.x < 32) __syncthreads();  // barrier_of_some
  m[threadIdx.x] = 1;
}

__global__ void early_exit(float* m, int n) {
  __shared__ float t[64];
  const int i = threadIdx.x;
  if (i >= n) return;
  t[i] = m[i];
  __syncthreads();  // early_exit
  m[i] = t[n - 1 - i];
}

__global__ void early_exit_of_warp(float* m) {
  if (threadIdx.x >= 32) return;
  __syncthreads();  // early_exit_of_warp
  m[threadIdx.x] = 1;
}

__global__ void divergent_shuffle(float* m) {
  float v = m[threadIdx.x];
  if (threadIdx.x < 16) v += __shfl_xor_sync(0xffffffffu, v, 1);  // divergent_shuffle
  m[threadIdx.x] = v;
}

__global__ void shuffle_of_missing_lane(float* m) {
  float v = m[threadIdx.x];
  if (threadIdx.x < 16) v += __shfl_xor_sync(0x0000ffffu, v, 16);  // shuffle_of_missing_lane
  m[threadIdx.x] = v;
}

__global__ void wrong_mask(float* m) {
  float v = m[threadIdx.x];
  if (threadIdx.x >= 16) v += __shfl_xor_sync(0x0000ffffu, v, 1);  // wrong_mask
  m[threadIdx.x] = v;
}

__global__ void host_pointer(float* m, const float* host) {
  m[threadIdx.x] = host[threadIdx.x];  // host_pointer
}

__global__ void unwaited_copy(float* m) {
  __shared__ __align__(16) float t[128];
  const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(t + 4 * threadIdx.x));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(m + 4 * threadIdx.x) : "memory");
  asm volatile("cp.async.commit_group;" ::: "memory");
  __syncthreads();
  m[1024 + threadIdx.x] = t[threadIdx.x];  // unwaited_copy
  asm volatile("cp.async.wait_group 0;" ::: "memory");
}

__global__ void waited_by_another(float* m) {
  __shared__ __align__(16) float t[128];
  const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(t + 4 * threadIdx.x));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(m + 4 * threadIdx.x) : "memory");
  asm volatile("cp.async.wait_all;" ::: "memory");
  m[1024 + threadIdx.x] = t[threadIdx.x];  // waited_by_another
}

__global__ void read_only_but_written(float* m) {
  m[threadIdx.x] = 1;
  m[64 + threadIdx.x] = __ldg(m + threadIdx.x);  // read_only_but_written
}

__global__ void unsupported(float* m) {
  unsigned mask;
  asm volatile("activemask.b32 %0;" : "=r"(mask));  // unsupported
  m[threadIdx.x] = static_cast<float>(mask);
}

__global__ void failed_assertion(float* m) {
  if (m[threadIdx.x] < 2) asm volatile("trap;");  // failed_assertion
}

__global__ void endless_loop(float* m) {
  volatile float* v = m;
  while (v[0] < 1e9f) {
    v[1] = 0;  // near endless_loop
  }
}

__global__ void fill(float* to, float value, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) to[i] = value;
}

__global__ void many_threads(float* to) {
  extern __shared__ float dynamic[];
  dynamic[threadIdx.x] = static_cast<float>(threadIdx.x);
  __syncthreads();
  to[threadIdx.x] = dynamic[blockDim.x - 1 - threadIdx.x];
}

__global__ void __launch_bounds__(64) bounded(float* to) {
  to[threadIdx.x] = 1;
}

}  // namespace

void launch_fault(const char* name, float* memory, float* fresh, const float* host_memory) {
  const auto is = [name](const char* other) { return std::strcmp(name, other) == 0; };
  if (is("read_beyond")) read_beyond<<<1, 32>>>(memory);
  if (is("write_beyond")) write_beyond<<<17, 256>>>(memory, 4096);
  if (is("write_before")) write_before<<<1, 32>>>(memory);
  if (is("null_pointer")) null_pointer<<<1, 32>>>(nullptr);
  if (is("shared_beyond")) shared_beyond<<<1, 64>>>(memory);
  if (is("shared_into_next")) shared_into_next<<<1, 64>>>(memory);
  if (is("dynamic_beyond")) dynamic_beyond<<<1, 64, 63 * sizeof(float)>>>(memory);
  if (is("local_beyond")) local_beyond<<<1, 32>>>(memory);
  if (is("misaligned")) misaligned<<<1, 1>>>(memory);
  if (is("misaligned_read")) misaligned_read<<<1, 32>>>(memory);
  if (is("misaligned_shared_read")) misaligned_shared_read<<<1, 32>>>(memory);
  if (is("weak_shared")) weak_shared<<<1, 32>>>(memory);
  if (is("weak_variable")) weak_variable<<<1, 32>>>(memory);
  if (is("parameter_beyond")) parameter_beyond<<<1, 9>>>(memory, {});
  if (is("parameter_into_next")) parameter_into_next<<<1, 9>>>(memory, {}, {});
  if (is("uninitialised_global")) uninitialised_global<<<1, 32>>>(memory, fresh);
  if (is("uninitialised_tail")) uninitialised_tail<<<1, 32>>>(memory, fresh);
  if (is("uninitialised_shared")) uninitialised_shared<<<1, 64>>>(memory);
  if (is("missing_syncthreads")) missing_syncthreads<<<1, 128>>>(memory);
  if (is("missing_second_syncthreads")) missing_second_syncthreads<<<1, 64>>>(memory);
  if (is("missing_syncwarp")) missing_syncwarp<<<1, 32>>>(memory);
  if (is("syncwarp_of_half")) syncwarp_of_half<<<1, 32>>>(memory);
  if (is("race_in_block")) race_in_block<<<1, 64>>>(memory);
  if (is("race_in_warp")) race_in_warp<<<1, 32>>>(memory);
  if (is("race_of_volatile")) race_of_volatile<<<1, 32>>>(memory);
  if (is("device_function")) device_function<<<1, 32>>>(memory);
  if (is("race_between_blocks")) race_between_blocks<<<4, 32>>>(memory);
  if (is("read_of_other_block")) read_of_other_block<<<2, 32>>>(memory);
  if (is("atomic_and_plain")) atomic_and_plain<<<2, 32>>>(memory);
  if (is("atomics_of_blocks")) atomics_of_blocks<<<2, 32>>>(memory);
  if (is("atomic_of_one_block")) atomic_of_one_block<<<2, 32>>>(memory);
  if (is("divergent_barrier")) divergent_barrier<<<1, 64>>>(memory);
  if (is("barrier_of_some")) barrier_of_some<<<1, 64>>>(memory);
  if (is("early_exit")) early_exit<<<1, 64>>>(memory, 40);
  if (is("early_exit_of_warp")) early_exit_of_warp<<<1, 64>>>(memory);
  if (is("divergent_shuffle")) divergent_shuffle<<<1, 32>>>(memory);
  if (is("shuffle_of_missing_lane")) shuffle_of_missing_lane<<<1, 32>>>(memory);
  if (is("wrong_mask")) wrong_mask<<<1, 32>>>(memory);
  if (is("host_pointer")) host_pointer<<<1, 32>>>(memory, host_memory);
  if (is("unwaited_copy")) unwaited_copy<<<1, 32>>>(memory);
  if (is("waited_by_another")) waited_by_another<<<1, 32>>>(memory);
  if (is("read_only_but_written")) read_only_but_written<<<1, 32>>>(memory);
  if (is("unsupported")) unsupported<<<1, 32>>>(memory);
  if (is("failed_assertion")) failed_assertion<<<1, 32>>>(memory);
  if (is("endless_loop")) endless_loop<<<1, 1>>>(memory);
}

void launch_fill(float* to, float value, int count, cudaStream_t stream) {
  fill<<<(count + 255) / 256, 256, 0, stream>>>(to, value, count);
}

void launch_grid(float* to, dim3 grid) {
  fill<<<grid, 1>>>(to, 1, 0);
}

cudaError_t allow_shared(int bytes) {
  return cudaFuncSetAttribute(many_threads, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

cudaError_t allow_shared_beside_static(int bytes) {
  return cudaFuncSetAttribute(shared_beyond, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

void launch_many_threads(float* to, int threads, int shared_bytes) {
  many_threads<<<1, threads, shared_bytes>>>(to);
}

void launch_bounded(float* to, int threads) {
  bounded<<<1, threads>>>(to);
}

}  // namespace kiln::emulator::testing
