#include "tests/cuda_emulator/libraries/tests/lt_harness.h"

#include <cuda_bf16.h>

namespace kiln::emulator::testing {

namespace {

uint16_t bits_of(float value) {
  return static_cast<__nv_bfloat16_raw>(__float2bfloat16(value)).x;
}

float value_of(uint16_t bits) {
  __nv_bfloat16_raw raw;
  raw.x = bits;
  return __bfloat162float(raw);
}

}  // namespace

float to_type(float value, cudaDataType type) {
  return type == CUDA_R_32F ? value : value_of(bits_of(value));
}

std::vector<float> random_values(std::mt19937& random, size_t count) {
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(count);
  for (float& each : values) each = uniform(random);
  return values;
}

TypedArray::TypedArray(cudaDataType type, size_t count) : type_(type) {
  if (type == CUDA_R_32F) floats_ = std::make_unique<DeviceArray<float>>(count);
  if (type == CUDA_R_16BF) halves_ = std::make_unique<DeviceArray<uint16_t>>(count);
}

TypedArray::TypedArray(cudaDataType type, const std::vector<float>& values)
    : TypedArray(type, values.size()) {
  for (const float each : values) values_.push_back(to_type(each, type));
  if (floats_) cudaMemcpy(data(), values_.data(), values_.size() * sizeof(float), cudaMemcpyHostToDevice);
  if (halves_) {
    std::vector<uint16_t> bits;
    for (const float each : values) bits.push_back(bits_of(each));
    cudaMemcpy(data(), bits.data(), bits.size() * sizeof(uint16_t), cudaMemcpyHostToDevice);
  }
}

void* TypedArray::data() {
  return floats_ ? static_cast<void*>(floats_->data()) : halves_->data();
}

std::vector<float> TypedArray::read() const {
  if (floats_) return floats_->read();
  std::vector<float> values;
  for (const uint16_t each : halves_->read()) values.push_back(value_of(each));
  return values;
}

size_t LtShape::index(int64_t rows, int64_t columns, int64_t batch, int64_t i, int64_t j) const {
  const int64_t lead = ld(rows, columns);
  return static_cast<size_t>(batch * stride(rows, columns) + (by_rows ? i * lead + j : j * lead + i));
}

LtMatmul::LtMatmul(const LtShape& s) {
  cublasLtCreate(&handle);
  cublasLtMatmulDescCreate(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F);
  set(CUBLASLT_MATMUL_DESC_TRANSA, s.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_TRANSB, s.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  const auto layout = [&](cublasLtMatrixLayout_t& made, cudaDataType type, int64_t rows, int64_t columns) {
    cublasLtMatrixLayoutCreate(&made, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(columns),
                               s.ld(rows, columns));
    set(made, CUBLASLT_MATRIX_LAYOUT_ORDER, int32_t{s.by_rows ? CUBLASLT_ORDER_ROW : CUBLASLT_ORDER_COL});
    set(made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<int32_t>(s.count));
    set(made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, s.stride(rows, columns));
  };
  layout(a, s.in, s.a_rows(), s.a_columns());
  layout(b, s.in, s.b_rows(), s.b_columns());
  layout(c, s.out, s.m, s.n);
  layout(d, s.out, s.m, s.n);
  cublasLtMatmulPreferenceCreate(&preference);
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{workspace.size()});
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
}

LtMatmul::~LtMatmul() {
  cublasLtMatmulPreferenceDestroy(preference);
  for (const auto each : {a, b, c, d}) cublasLtMatrixLayoutDestroy(each);
  cublasLtMatmulDescDestroy(description);
  cublasLtDestroy(handle);
}

cublasStatus_t LtMatmul::choose() {
  int count = 0;
  return cublasLtMatmulAlgoGetHeuristic(handle, description, a, b, c, d, preference, 1, &chosen, &count);
}

cublasStatus_t LtMatmul::run(const void* a_data, const void* b_data, const void* c_data, void* d_data,
                             cudaStream_t stream) {
  return cublasLtMatmul(handle, description, alpha_pointer, a_data, a, b_data, b, beta_pointer, c_data, c,
                        d_data, d, &chosen.algo, workspace.data(), workspace_bytes, stream);
}

}  // namespace kiln::emulator::testing
