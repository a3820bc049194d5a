#include "kernels/cuda/cublaslt.h"

#include <cublasLt.h>

#include <map>
#include <memory>
#include <tuple>

#include "kernels/cuda/kernels.h"
#include "src/device/plan.h"

namespace kiln::kernels::cuda {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // what NVIDIA recommends for its largest GPUs
constexpr size_t kWorkspaceAlignment = 256;           // what cuBLASLt asks for
constexpr uint32_t kBiasAlignment = 16;

std::string text_of(const LtProduct& p) {
  return fmt::format("a product ({}, {}) x ({}, {}) of {}{}", p.M, p.K, p.K, p.N, name_of(p.dtype),
                     p.accumulate ? ", added to what is there" : "");
}

const char* name_of_status(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH:
      return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR:
      return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "an unknown status";
  }
}

void check(cublasStatus_t status, const std::string& what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(ExitCode::device, fmt::format("cuBLASLt, {}: {}", what, name_of_status(status)),
              "CUBLASLT_LOG_LEVEL=5 in the environment makes cuBLASLt say more");
}

// What cuBLASLt makes and destroys.
template <class Handle, cublasStatus_t (*destroy)(Handle)>
struct Destroy {
  using pointer = Handle;
  void operator()(Handle handle) const { destroy(handle); }
};
template <class Handle, cublasStatus_t (*destroy)(Handle)>
using Owned = std::unique_ptr<void, Destroy<Handle, destroy>>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Description = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;
using Handle = Owned<cublasLtHandle_t, cublasLtDestroy>;

Handle make_handle() {
  cublasLtHandle_t handle = nullptr;
  check(cublasLtCreate(&handle), "starting");
  return Handle(handle);
}

cudaDataType_t type_of(DType dtype) {
  return dtype == DType::f32 ? CUDA_R_32F : CUDA_R_16BF;
}

// A row-major matrix is its transpose to cuBLASLt, which has columns of `cols` elements then.
Layout make_layout(int64_t rows, int64_t cols, int64_t ld, DType dtype) {
  cublasLtMatrixLayout_t layout = nullptr;
  check(cublasLtMatrixLayoutCreate(&layout, type_of(dtype), static_cast<uint64_t>(cols),
                                   static_cast<uint64_t>(rows), ld),
        "describing a matrix");
  return Layout(layout);
}

template <class Value>
void set(const Description& description, cublasLtMatmulDescAttributes_t attribute, const Value& value) {
  check(cublasLtMatmulDescSetAttribute(description.get(), attribute, &value, sizeof value),
        "describing a product");
}

// out^T = b^T a^T: to the library, b comes first.
Description make_description(const LtProduct& p) {
  cublasLtMatmulDesc_t made = nullptr;
  check(cublasLtMatmulDescCreate(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product");
  Description description(made);
  set(description, CUBLASLT_MATMUL_DESC_TRANSA, p.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(description, CUBLASLT_MATMUL_DESC_TRANSB, p.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (p.bias) {
    set(description, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(description, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(p.out_dtype));
    set(description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
  }
  return description;
}

// The largest power of two that an address is a multiple of, up to what every planned buffer has: so that a shape gets the
// same algorithm, and the same bits, wherever its buffers happen to lie.
uint32_t alignment_of(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer) | Plan::kAlignment;
  return static_cast<uint32_t>(address & ~(address - 1));
}

// All that the choice of an algorithm depends on.
auto key_of(const LtProduct& p) {
  return std::tuple(p.M, p.N, p.K, p.lda, p.ldb, p.ldo, p.a_transposed, p.b_transposed, p.accumulate, p.dtype,
                    p.out_dtype, p.bias != nullptr, alignment_of(p.a), alignment_of(p.b), alignment_of(p.out),
                    alignment_of(p.bias));
}
using Key = decltype(key_of(std::declval<const LtProduct&>()));

struct Described {
  Description description;
  Layout a, b, out;
  Preference preference;
};

Preference make_preference(const LtProduct& p) {
  cublasLtMatmulPreference_t made = nullptr;
  check(cublasLtMatmulPreferenceCreate(&made), "stating preferences");
  Preference preference(made);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check(cublasLtMatmulPreferenceSetAttribute(made, attribute, &value, sizeof value), "stating preferences");
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
  // Parts of sums are kept in fp32, whatever the output's type, and not added up in place.
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  // Unless told, the library takes every matrix to lie on 256 bytes.
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(p.b));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(p.a));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(p.out));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(p.out));
  return preference;
}

Described describe(const LtProduct& p) {
  return {.description = make_description(p),
          .a = p.a_transposed ? make_layout(p.K, p.M, p.lda, p.dtype) : make_layout(p.M, p.K, p.lda, p.dtype),
          .b = p.b_transposed ? make_layout(p.N, p.K, p.ldb, p.dtype) : make_layout(p.K, p.N, p.ldb, p.dtype),
          .out = make_layout(p.M, p.N, p.ldo, p.out_dtype),
          .preference = make_preference(p)};
}

struct Prepared {
  Described described;
  cublasLtMatmulAlgo_t algorithm;
};

Prepared prepare(cublasLtHandle_t handle, const LtProduct& p) {
  Described d = describe(p);
  cublasLtMatmulHeuristicResult_t choice = {};
  int found = 0;
  cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(handle, d.description.get(), d.b.get(), d.a.get(), d.out.get(),
                                     d.out.get(), d.preference.get(), 1, &choice, &found);
  if (status == CUBLAS_STATUS_SUCCESS) status = found == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : choice.state;
  check(status, fmt::format("choosing an algorithm for {}", text_of(p)));
  return {std::move(d), choice.algo};
}

struct CudaLibraries : LibraryState {
  Handle handle = make_handle();
  std::map<Key, Prepared> products;
};

CudaLibraries& libraries(Context& context) {
  if (!context.libraries) context.libraries = std::make_unique<CudaLibraries>();
  auto* cuda = dynamic_cast<CudaLibraries*>(context.libraries.get());
  require(cuda != nullptr, "a CUDA kernel was called with the libraries of another backend");
  return *cuda;
}

}  // namespace

size_t lt_workspace_bytes() {
  return Workspace::bytes_for<char>(kWorkspaceBytes + kWorkspaceAlignment);
}

void check_descriptions(const LtProduct& p) {
  describe(p);
}

size_t kept_lt_products(const Context& context) {
  const auto* cuda = dynamic_cast<const CudaLibraries*>(context.libraries.get());
  return cuda ? cuda->products.size() : 0;
}

void multiply(Context& context, const LtProduct& p) {
  require(p.M > 0 && p.N > 0 && p.K > 0 && !(p.bias && p.accumulate),
          "a product that cuBLASLt has no call for");
  // A preference tells the library how matrices are aligned; of a bias, which its kernels load 16 bytes at a time, none.
  require(alignment_of(p.bias) >= kBiasAlignment, "a bias that cuBLASLt is given must lie on 16 bytes");
  cudaStream_t const stream = stream_of(context);
  CudaLibraries& state = libraries(context);
  auto known = state.products.find(key_of(p));
  if (known == state.products.end()) {
    if (state.products.size() == kMostLtProducts) state.products.clear();
    known = state.products.emplace(key_of(p), prepare(state.handle.get(), p)).first;
  }
  const auto& [product, algorithm] = known->second;
  if (p.bias) set(product.description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);

  Workspace::Scope scope(context.workspace);
  auto workspace = reinterpret_cast<uintptr_t>(scope.take<char>(kWorkspaceBytes + kWorkspaceAlignment));
  workspace = (workspace + kWorkspaceAlignment - 1) / kWorkspaceAlignment * kWorkspaceAlignment;
  const float alpha = 1, beta = p.accumulate ? 1 : 0;
  check(cublasLtMatmul(state.handle.get(), product.description.get(), &alpha, p.b, product.b.get(), p.a,
                       product.a.get(), &beta, p.out, product.out.get(), p.out, product.out.get(), &algorithm,
                       reinterpret_cast<void*>(workspace), kWorkspaceBytes, stream),
        text_of(p));
}

}  // namespace kiln::kernels::cuda
