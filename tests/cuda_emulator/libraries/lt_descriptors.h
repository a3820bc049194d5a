// The descriptors of cuBLASLt, which lie in the caller's memory or in what Create gives.
#pragma once

#include <cublasLt.h>

#include <cstdint>

namespace kiln::emulator {

struct LayoutData {
  uint64_t mark;
  int32_t type, order;
  uint64_t rows, columns;
  int64_t ld;
  int32_t batch_count;
  uint32_t batch_mode;
  int64_t batch_stride;
};

struct MatmulData {
  uint64_t mark;
  int32_t compute, scale_type, pointer_mode, transpose_a, transpose_b, transpose_c, fill_mode;
  uint32_t epilogue;
  uint64_t bias;
  int64_t bias_stride;
  uint64_t aux;
  int64_t aux_ld, aux_stride;
  int32_t bias_type, aux_type;
};

struct PreferenceData {
  uint64_t mark;
  uint64_t max_workspace, implementations;
  uint32_t reduction_schemes, alignment_a, alignment_b, alignment_c, alignment_d;
};

// What the descriptor says; a refusal for null, a finding for what is no descriptor (any more).
const LayoutData& layout_data(cublasLtMatrixLayout_t layout, const char* name);
const MatmulData& matmul_data(cublasLtMatmulDesc_t description);
const PreferenceData& preference_data(cublasLtMatmulPreference_t preference);

}  // namespace kiln::emulator
