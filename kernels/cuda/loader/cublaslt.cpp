// The entry points of cuBLASLt that kiln calls, which look for the library when they are first called. Linked in its
// place: libcublasLt.so has half a gigabyte, and a kiln that named it to the linker would not even start where it is
// missing, on machines without a GPU most of all.
#include <cublasLt.h>
#include <dlfcn.h>

#include "src/core/error.h"

namespace {

void* open_library() {
  const std::string name = fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR);
  // Where the linker looks, then where the toolkit was that kiln was built with.
  for (const std::string& path : {name, fmt::format("{}/{}", KILN_CUBLASLT_FOLDER, name)}) {
    if (void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  }
  const char* why = dlerror();
  throw kiln::Error(
      kiln::ExitCode::device, fmt::format("cannot load cuBLASLt: {}", why ? why : name),
      fmt::format("install the libraries of the CUDA toolkit {}, or name their folder in LD_LIBRARY_PATH",
                  CUBLAS_VER_MAJOR));
}

void* library() {  // opened once
  static void* const opened = open_library();
  return opened;
}

template <class Function>
Function* find(const char* name) {
  void* found = dlsym(library(), name);
  if (!found) {
    throw kiln::Error(kiln::ExitCode::device, fmt::format("cuBLASLt has no function {}", name),
                      "install the libraries of the CUDA toolkit that kiln was built with");
  }
  return reinterpret_cast<Function*>(found);
}

}  // namespace

#define KILN_FORWARD(name, parameters, arguments)              \
  cublasStatus_t name parameters {                             \
    static auto* const function = find<decltype(name)>(#name); \
    return function arguments;                                 \
  }

extern "C" {

KILN_FORWARD(cublasLtCreate, (cublasLtHandle_t * handle), (handle))
KILN_FORWARD(cublasLtDestroy, (cublasLtHandle_t handle), (handle))
KILN_FORWARD(cublasLtMatrixLayoutCreate,
             (cublasLtMatrixLayout_t * layout, cudaDataType type, uint64_t rows, uint64_t cols, int64_t ld),
             (layout, type, rows, cols, ld))
KILN_FORWARD(cublasLtMatrixLayoutDestroy, (cublasLtMatrixLayout_t layout), (layout))
KILN_FORWARD(cublasLtMatmulDescCreate,
             (cublasLtMatmulDesc_t * desc, cublasComputeType_t compute, cudaDataType_t scale),
             (desc, compute, scale))
KILN_FORWARD(cublasLtMatmulDescDestroy, (cublasLtMatmulDesc_t desc), (desc))
KILN_FORWARD(cublasLtMatmulDescSetAttribute,
             (cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute, const void* value,
              size_t bytes),
             (desc, attribute, value, bytes))
KILN_FORWARD(cublasLtMatmulPreferenceCreate, (cublasLtMatmulPreference_t * preference), (preference))
KILN_FORWARD(cublasLtMatmulPreferenceDestroy, (cublasLtMatmulPreference_t preference), (preference))
KILN_FORWARD(cublasLtMatmulPreferenceSetAttribute,
             (cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
              const void* value, size_t bytes),
             (preference, attribute, value, bytes))
KILN_FORWARD(cublasLtMatmulAlgoGetHeuristic,
             (cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
              cublasLtMatmulPreference_t preference, int wanted, cublasLtMatmulHeuristicResult_t* results,
              int* found),
             (handle, desc, a, b, c, d, preference, wanted, results, found))
KILN_FORWARD(cublasLtMatmul,
             (cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha, const void* a,
              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo, void* workspace,
              size_t bytes, cudaStream_t stream),
             (handle, desc, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout, algo, workspace,
              bytes, stream))

}  // extern "C"
