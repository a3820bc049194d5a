#include "tests/cuda_emulator/tests/instructions.h"

namespace kiln::emulator::testing {

namespace {

template <Mma kKind>
__global__ void mma(uint32_t* d, const uint32_t* a, const uint32_t* b, const uint32_t* c) {
  const uint32_t* A = a + 4 * threadIdx.x;
  const uint32_t* B = b + 2 * threadIdx.x;
  const uint32_t* C = c + 4 * threadIdx.x;
  uint32_t D[4] = {};
  if constexpr (kKind == Mma::kBrain16) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%11,%12,%13};"
        : "=r"(D[0]), "=r"(D[1]), "=r"(D[2]), "=r"(D[3])
        : "r"(A[0]), "r"(A[1]), "r"(A[2]), "r"(A[3]), "r"(B[0]), "r"(B[1]), "r"(C[0]), "r"(C[1]), "r"(C[2]),
          "r"(C[3]));
  } else if constexpr (kKind == Mma::kHalf16) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%11,%12,%13};"
        : "=r"(D[0]), "=r"(D[1]), "=r"(D[2]), "=r"(D[3])
        : "r"(A[0]), "r"(A[1]), "r"(A[2]), "r"(A[3]), "r"(B[0]), "r"(B[1]), "r"(C[0]), "r"(C[1]), "r"(C[2]),
          "r"(C[3]));
  } else if constexpr (kKind == Mma::kBrain8) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%8,%9,%10};"
        : "=r"(D[0]), "=r"(D[1]), "=r"(D[2]), "=r"(D[3])
        : "r"(A[0]), "r"(A[1]), "r"(B[0]), "r"(C[0]), "r"(C[1]), "r"(C[2]), "r"(C[3]));
  } else if constexpr (kKind == Mma::kHalf8) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%8,%9,%10};"
        : "=r"(D[0]), "=r"(D[1]), "=r"(D[2]), "=r"(D[3])
        : "r"(A[0]), "r"(A[1]), "r"(B[0]), "r"(C[0]), "r"(C[1]), "r"(C[2]), "r"(C[3]));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3,%4,%5}, {%6,%7}, {%8,%9};"
        : "=r"(D[0]), "=r"(D[1])
        : "r"(A[0]), "r"(A[1]), "r"(A[2]), "r"(A[3]), "r"(B[0]), "r"(B[1]), "r"(C[0]), "r"(C[1]));
  }
  for (int i = 0; i < 4; ++i) d[4 * threadIdx.x + i] = D[i];
}

__global__ void load_matrices(uint32_t* out, const uint16_t* in, int tiles, bool transposed) {
  __shared__ __align__(16) uint16_t shared[4 * 64];
  for (int i = threadIdx.x; i < 256; i += 32) shared[i] = in[i];
  __syncwarp();
  const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(shared + 8 * threadIdx.x));
  uint32_t r[4] = {};
  if (tiles == 1 && !transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(at) : "memory");
  } else if (tiles == 2 && !transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(at)
                 : "memory");
  } else if (tiles == 4 && !transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
  } else if (tiles == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(at)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
  }
  for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = r[i];
}

__global__ void copy_async(float* out, const float* in, int tail) {
  __shared__ __align__(16) float shared[256];
  const int i = threadIdx.x;
  const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(shared + 4 * i));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(in + 4 * i) : "memory");
  asm volatile("cp.async.commit_group;" ::: "memory");
  const int bytes = i == 31 ? tail : 16;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at + 512), "l"(in + 128 + 4 * i),
               "r"(bytes)
               : "memory");
  asm volatile("cp.async.commit_group;" ::: "memory");
  asm volatile("cp.async.wait_group 1;" ::: "memory");
  __syncwarp();
  for (int k = i; k < 128; k += 32) out[k] = shared[127 - k];
  asm volatile("cp.async.wait_group 0;" ::: "memory");
  __syncwarp();
  for (int k = i; k < 128; k += 32) out[128 + k] = shared[128 + k];
}

}  // namespace

void launch_mma(Mma kind, uint32_t* d, const uint32_t* a, const uint32_t* b, const uint32_t* c) {
  switch (kind) {
    case Mma::kBrain16:
      mma<Mma::kBrain16><<<1, 32>>>(d, a, b, c);
      break;
    case Mma::kBrain8:
      mma<Mma::kBrain8><<<1, 32>>>(d, a, b, c);
      break;
    case Mma::kHalf16:
      mma<Mma::kHalf16><<<1, 32>>>(d, a, b, c);
      break;
    case Mma::kHalf8:
      mma<Mma::kHalf8><<<1, 32>>>(d, a, b, c);
      break;
    case Mma::kHalf16InHalf:
      mma<Mma::kHalf16InHalf><<<1, 32>>>(d, a, b, c);
      break;
  }
}

void launch_ldmatrix(uint32_t* out, const uint16_t* in, int tiles, bool transposed) {
  load_matrices<<<1, 32>>>(out, in, tiles, transposed);
}

void launch_copy_async(float* out, const float* in, int tail) {
  copy_async<<<1, 32>>>(out, in, tail);
}

}  // namespace kiln::emulator::testing
