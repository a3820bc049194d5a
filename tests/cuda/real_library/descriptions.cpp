// What NVIDIA's own cuBLASLt says without a GPU: it is loaded, has every function that kiln calls to describe products, and
// takes every attribute with the size that kiln gives it. The library is looked for once, in two places at most. Skipped, in
// one line, where it is not installed.
#include <cstdio>
#include <cstring>
#include <string>

#include "kernels/cuda/cublaslt.h"
#include "src/core/error.h"

namespace {
int attempts = 0;
}

extern "C" {  // in the place of dlopen (--wrap)
void* __real_dlopen(const char* name, int how);
void* __wrap_dlopen(const char* name, int how);
void* __wrap_dlopen(const char* name, int how) {
  if (name && std::strstr(name, "cublasLt")) attempts++;
  return __real_dlopen(name, how);
}
}

int main() {
  constexpr int kSkipped = 77;
  using kiln::DType;
  alignas(256) static float memory[64];
  try {
    for (DType dtype : {DType::f32, DType::bf16}) {
      for (DType out : {DType::f32, dtype}) {
        for (const void* bias : {static_cast<const void*>(nullptr), static_cast<const void*>(memory)}) {
          for (bool transposed : {false, true}) {
            kiln::kernels::cuda::check_descriptions({.out = memory,
                                                     .a = memory + 1,
                                                     .b = memory + 2,
                                                     .bias = bias,
                                                     .M = 3,
                                                     .N = 5,
                                                     .K = 7,
                                                     .lda = 8,
                                                     .ldb = 9,
                                                     .ldo = 6,
                                                     .a_transposed = transposed,
                                                     .b_transposed = !transposed,
                                                     .accumulate = bias == nullptr,
                                                     .dtype = dtype,
                                                     .out_dtype = out});
          }
        }
      }
    }
  } catch (const kiln::Error& error) {
    const std::string why = error.what();
    std::printf("%s\n", why.c_str());
    return why.find("cannot load cuBLASLt") == 0 ? kSkipped : 1;
  }
  if (attempts < 1 || attempts > 2) {
    std::printf("cuBLASLt was looked for %d times\n", attempts);
    return 1;
  }
  std::puts("cuBLASLt took every description");
  return 0;
}
