// cublasLtMatmul: what it is given is checked at the call, and again, with the contents of memory, when the stream gets
// there.
#include <cmath>
#include <numbers>

#include "tests/cuda_emulator/libraries/blas_common.h"
#include "tests/cuda_emulator/libraries/call_log.h"
#include "tests/cuda_emulator/libraries/lt_algorithm.h"
#include "tests/cuda_emulator/libraries/objects.h"
#include "tests/cuda_emulator/libraries/pointer_arrays.h"
#include "tests/cuda_emulator/libraries/scalars.h"
#include "tests/cuda_emulator/runtime.h"

using namespace kiln::emulator;

namespace {

constexpr size_t kVectorAlignment = 16;  // of bias and auxiliary buffers, which kernels read by 16 bytes

struct LtCall {
  LtProblem problem;
  std::string what;
  Scalar alpha, beta;
  uint64_t a, b, c, d;  // matrices, or arrays of pointers to them
  uint32_t alignment_a = 1, alignment_b = 1, alignment_c = 1, alignment_d = 1;
  uint64_t workspace = 0;
  size_t workspace_bytes = 0;  // that the algorithm uses

  bool in_place() const { return c == d; }
};

void check_matrices(const LayoutData& layout, uint64_t address, uint32_t alignment, bool pointers,
                    const char* name) {
  const auto count = static_cast<size_t>(layout.batch_count);
  if (pointers) {
    require_device_pointer(address, count * sizeof(void*), sizeof(void*),
                           fmt::format("{}, an array of pointers,", name));
    return;
  }
  const DeviceMatrix first = stored_matrix(layout, address);
  const size_t step = static_cast<size_t>(layout.batch_stride) * element_bytes(first.type);
  require_device_pointer(address, (count - 1) * step + first.bytes(), alignment, name);
}

// Every matrix must be aligned as the heuristic was promised.
void check_matrices(const LtCall& call) {
  const LtProblem& p = call.problem;
  check_matrices(p.a, call.a, call.alignment_a, p.pointer_arrays, "A");
  check_matrices(p.b, call.b, call.alignment_b, p.pointer_arrays, "B");
  check_matrices(p.c, call.c, call.alignment_c, p.pointer_arrays, "C");
  check_matrices(p.d, call.d, call.alignment_d, p.pointer_arrays, "D");
  if (call.in_place())
    invalid_unless(p.c.ld == p.d.ld && p.c.batch_stride == p.d.batch_stride,
                   "C and D are one matrix with two layouts");
}

DeviceMatrix bias_vector(const LtProblem& p, int64_t batch) {
  const int64_t length = p.description.epilogue == CUBLASLT_EPILOGUE_BGRADB ? p.n : p.m;
  return DeviceMatrix{p.description.bias, static_cast<cudaDataType>(p.d.type), length, 1, 1, length}.moved(
      batch * p.description.bias_stride);
}

DeviceMatrix aux_matrix(const LtProblem& p, int64_t batch) {
  return DeviceMatrix{p.description.aux,   static_cast<cudaDataType>(p.d.type), p.m, p.n, 1,
                      p.description.aux_ld}
      .moved(batch * p.description.aux_stride);
}

void check_epilogue_buffers(const LtProblem& p) {
  const LtEpilogue epilogue = lt_epilogue(p.description.epilogue);
  const auto check = [&](const DeviceMatrix& first, const DeviceMatrix& last, const char* name) {
    require_device_pointer(first.address, last.address - first.address + last.bytes(), kVectorAlignment,
                           name);
  };
  if (epilogue.has_bias()) check(bias_vector(p, 0), bias_vector(p, p.count - 1), "BIAS_POINTER");
  if (epilogue.has_aux()) check(aux_matrix(p, 0), aux_matrix(p, p.count - 1), "EPILOGUE_AUX_POINTER");
}

void take_algorithm(LtCall& call, const cublasLtMatmulAlgo_t* algorithm, void* workspace, size_t bytes) {
  if (bytes > 0) require_device_pointer(address_of(workspace), bytes, 256, "the workspace");
  if (algorithm == nullptr) return;  // one that needs nothing
  const LtAlgorithm chosen = lt_algorithm(*algorithm, call.problem);
  invalid_unless(bytes >= chosen.workspace,
                 fmt::format("a workspace of {} bytes; the algorithm needs {}", bytes, chosen.workspace));
  call.workspace = address_of(workspace);
  call.workspace_bytes = chosen.workspace;
  call.alignment_a = chosen.alignment_a;
  call.alignment_b = chosen.alignment_b;
  call.alignment_c = chosen.alignment_c;
  call.alignment_d = chosen.alignment_d;
}

// GELU by tanh, as the library documents it, and its derivative.
float gelu(float x) {
  constexpr float kScale = std::numbers::sqrt2_v<float> * std::numbers::inv_sqrtpi_v<float>;  // sqrt(2 / pi)
  return 0.5f * x * (1 + std::tanh(kScale * (x + 0.044715f * x * x * x)));
}

float gelu_slope(float x) {
  constexpr float kScale = std::numbers::sqrt2_v<float> * std::numbers::inv_sqrtpi_v<float>;
  const float t = std::tanh(kScale * (x + 0.044715f * x * x * x));
  return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * kScale * (1 + 3 * 0.044715f * x * x);
}

// Sums of the rows of a dense column-major matrix, or of its columns.
std::vector<float> row_sums(const std::vector<float>& values, int64_t rows) {
  std::vector<float> sums(static_cast<size_t>(rows));
  for (size_t i = 0; i < values.size(); ++i) sums[i % sums.size()] += values[i];
  return sums;
}

std::vector<float> column_sums(const std::vector<float>& values, int64_t rows, int64_t columns) {
  std::vector<float> sums(static_cast<size_t>(columns));
  for (size_t i = 0; i < values.size(); ++i) sums[i / static_cast<size_t>(rows)] += values[i];
  return sums;
}

// Works on `out`, alpha op(A) op(B) + beta C, dense.
void apply_epilogue(Accesses& accesses, const LtProblem& p, int64_t batch, const std::vector<float>& a,
                    const std::vector<float>& b, std::vector<float>& out) {
  const LtEpilogue epilogue = lt_epilogue(p.description.epilogue);
  const DeviceMatrix bias = bias_vector(p, batch), aux = aux_matrix(p, batch);
  if (epilogue.adds_bias) {
    const std::vector<float> values = load(accesses, bias, Reading::kWritten, "the bias");
    for (size_t i = 0; i < out.size(); ++i) out[i] += values[i % values.size()];
  }
  if (epilogue.writes_aux) store(accesses, aux, out, "the auxiliary buffer");
  if (epilogue.gelu) {
    for (float& each : out) each = gelu(each);
  }
  if (epilogue.gelu_gradient) {
    const std::vector<float> values = load(accesses, aux, Reading::kWritten, "the auxiliary buffer");
    for (size_t i = 0; i < out.size(); ++i) out[i] *= gelu_slope(values[i]);
  }
  if (epilogue.bias_gradient) store(accesses, bias, row_sums(out, p.m), "the bias gradient");
  if (epilogue.bias_gradient_a) store(accesses, bias, row_sums(a, p.m), "the bias gradient");
  if (epilogue.bias_gradient_b) store(accesses, bias, column_sums(b, p.k, p.n), "the bias gradient");
}

DeviceMatrix batch_matrix(const LayoutData& layout, uint64_t address, const std::vector<uint64_t>& pointers,
                          int64_t batch) {
  if (!pointers.empty()) return stored_matrix(layout, pointers[static_cast<size_t>(batch)]);
  return stored_matrix(layout, address).moved(batch * layout.batch_stride);
}

void run_matmul(const Operation& operation, const LtCall& call) {
  const LtProblem& p = call.problem;
  Accesses accesses(operation, call.what);
  poison(accesses, call.workspace, call.workspace_bytes, "the workspace");
  const float alpha = call.alpha.value(accesses, "alpha"), beta = call.beta.value(accesses, "beta");
  const auto pointers = [&](uint64_t address, uint32_t alignment, const char* name) {
    return p.pointer_arrays ? load_pointers(accesses, address, p.count, alignment, name)
                            : std::vector<uint64_t>();
  };
  const std::vector<uint64_t> as = pointers(call.a, call.alignment_a, "A"),
                              bs = pointers(call.b, call.alignment_b, "B");
  const std::vector<uint64_t> cs = pointers(call.c, call.alignment_c, "C"),
                              ds = pointers(call.d, call.alignment_d, "D");
  for (int64_t batch = 0; batch < p.count; ++batch) {
    const DeviceMatrix a = batch_matrix(p.a, call.a, as, batch), b = batch_matrix(p.b, call.b, bs, batch);
    const DeviceMatrix c = batch_matrix(p.c, call.c, cs, batch), d = batch_matrix(p.d, call.d, ds, batch);
    const std::vector<float> left =
        load(accesses, is_transposed(p.description.transpose_a) ? a.transposed() : a, Reading::kWritten, "A");
    const std::vector<float> right =
        load(accesses, is_transposed(p.description.transpose_b) ? b.transposed() : b, Reading::kWritten, "B");
    std::vector<float> out = multiply(left, right, p.m, p.n, p.k);
    if (alpha != 1) {
      for (float& each : out) each *= alpha;
    }
    if (beta != 0) {
      const bool in_place = c.address == d.address && p.c.ld == p.d.ld;
      const std::vector<float> added =
          load(accesses, c, in_place ? Reading::kInPlace : Reading::kWritten, "C");
      for (size_t i = 0; i < out.size(); ++i) out[i] += beta * added[i];
    }
    apply_epilogue(accesses, p, batch, left, right, out);
    store(accesses, d, out, "D");
  }
}

void log_matmul(const LtCall& call) {
  const LtProblem& p = call.problem;
  const auto name = [](int32_t type) { return type_name(static_cast<cudaDataType>(type)); };
  log_call({.api = "cublasLtMatmul",
            .m = p.m,
            .n = p.n,
            .k = p.k,
            .count = p.count,
            .a_transposed = is_transposed(p.description.transpose_a),
            .b_transposed = is_transposed(p.description.transpose_b),
            .a_type = name(p.a.type),
            .b_type = name(p.b.type),
            .out_type = name(p.d.type),
            .epilogue = epilogue_name(p.description.epilogue),
            .alpha = call.alpha.logged(),
            .beta = call.beta.logged()});
}

}  // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  return blas_answer("cublasLtCreate", [&] {
    invalid_unless(handle != nullptr, "nowhere to put the handle");
    *handle = nullptr;
    refuse_unless(has_device(), CUBLAS_STATUS_NOT_INITIALIZED, "no CUDA device");
    *handle = reinterpret_cast<cublasLtHandle_t>(make_object<int>(kLtHandles));
  });
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  return blas_answer("cublasLtDestroy", [&] {
    invalid_unless(handle != nullptr, "the handle is null");
    remove_object(handle, kLtHandles);
  });
}

size_t cublasLtGetVersion() {
  return CUBLAS_VERSION;
}

size_t cublasLtGetCudartVersion() {
  return CUDART_VERSION;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t description, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
  return blas_answer("cublasLtMatmul", [&] {
    check_lt_handle(handle);
    LtCall call;
    call.problem = lt_problem(description, a_layout, b_layout, c_layout, d_layout);
    const LtProblem& p = call.problem;
    call.what = fmt::format("cublasLtMatmul of m {}, n {}, k {}, batch {}", p.m, p.n, p.k, p.count);
    const bool on_device = p.description.pointer_mode == CUBLASLT_POINTER_MODE_DEVICE;
    call.alpha = Scalar(alpha, on_device, "alpha");
    call.beta = Scalar(beta, on_device, "beta");
    const LtEpilogue epilogue = lt_epilogue(p.description.epilogue);
    if ((epilogue.bias_gradient_a || epilogue.bias_gradient_b) && call.alpha.logged() != 1)
      throw Finding("whether alpha scales the bias gradient of A or B is not documented: let it be 1");
    call.a = address_of(a);
    call.b = address_of(b);
    call.c = address_of(c);
    call.d = address_of(d);
    take_algorithm(call, algorithm, workspace, workspace_bytes);
    check_matrices(call);
    check_epilogue_buffers(p);
    Streams::instance().add(stream_of(stream), call.what,
                            [call](const Operation& operation) { run_matmul(operation, call); });
    log_matmul(call);
  });
}

}  // extern "C"
