// What descriptors answer without a GPU. The same source is linked with NVIDIA's own library too (libraries/real_...):
// sizes, defaults and statuses that hold here hold there.
#include <cublasLt.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <vector>

namespace {

struct Attribute {
  int id;
  size_t bytes;
  int64_t value;  // by default
};

constexpr Attribute kMatmul[] = {{CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, 4, CUBLAS_COMPUTE_32F},
                                 {CUBLASLT_MATMUL_DESC_SCALE_TYPE, 4, CUDA_R_32F},
                                 {CUBLASLT_MATMUL_DESC_POINTER_MODE, 4, CUBLASLT_POINTER_MODE_HOST},
                                 {CUBLASLT_MATMUL_DESC_TRANSA, 4, CUBLAS_OP_N},
                                 {CUBLASLT_MATMUL_DESC_TRANSB, 4, CUBLAS_OP_N},
                                 {CUBLASLT_MATMUL_DESC_TRANSC, 4, CUBLAS_OP_N},
                                 {CUBLASLT_MATMUL_DESC_FILL_MODE, 4, CUBLAS_FILL_MODE_FULL},
                                 {CUBLASLT_MATMUL_DESC_EPILOGUE, 4, CUBLASLT_EPILOGUE_DEFAULT},
                                 {CUBLASLT_MATMUL_DESC_BIAS_POINTER, 8, 0},
                                 {CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, 8, 0},
                                 {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, 8, 0},
                                 {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, 8, 0},
                                 {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, 8, 0},
                                 {CUBLASLT_MATMUL_DESC_ALPHA_VECTOR_BATCH_STRIDE, 8, 0},
                                 {CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, 4, 0},
                                 {CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, 8, 0},
                                 {CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, 8, 0},
                                 {CUBLASLT_MATMUL_DESC_C_SCALE_POINTER, 8, 0},
                                 {CUBLASLT_MATMUL_DESC_D_SCALE_POINTER, 8, 0},
                                 {CUBLASLT_MATMUL_DESC_AMAX_D_POINTER, 8, 0},
                                 {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, 4, -1},
                                 {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_SCALE_POINTER, 8, 0},
                                 {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_AMAX_POINTER, 8, 0},
                                 {CUBLASLT_MATMUL_DESC_FAST_ACCUM, 1, 0},
                                 {CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, 4, -1}};

constexpr Attribute kLayout[] = {{CUBLASLT_MATRIX_LAYOUT_TYPE, 4, CUDA_R_16BF},
                                 {CUBLASLT_MATRIX_LAYOUT_ORDER, 4, CUBLASLT_ORDER_COL},
                                 {CUBLASLT_MATRIX_LAYOUT_ROWS, 8, 3},
                                 {CUBLASLT_MATRIX_LAYOUT_COLS, 8, 5},
                                 {CUBLASLT_MATRIX_LAYOUT_LD, 8, 7},
                                 {CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 4, 1},
                                 {CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, 8, 0},
                                 {CUBLASLT_MATRIX_LAYOUT_PLANE_OFFSET, 8, 0},
#if CUBLAS_VERSION >= 130000
                                 {CUBLASLT_MATRIX_LAYOUT_BATCH_MODE, 4, CUBLASLT_BATCH_MODE_STRIDED}
#endif
};

constexpr Attribute kPreference[] = {
    {CUBLASLT_MATMUL_PREF_SEARCH_MODE, 4, CUBLASLT_SEARCH_BEST_FIT},
    {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, 8, 0},
    {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, 4, CUBLASLT_REDUCTION_SCHEME_MASK},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, 4, 256},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, 4, 256},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, 4, 256},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, 4, 256},
    {CUBLASLT_MATMUL_PREF_MAX_WAVES_COUNT, 4, 0},
    {CUBLASLT_MATMUL_PREF_IMPL_MASK, 8, -1}};

// Every attribute says its size and default, takes its own value again, and no other size.
template <class Id, class Descriptor, class Get, class Set>
void check(const Attribute& attribute, Descriptor descriptor, Get get, Set set) {
  const auto id = static_cast<Id>(attribute.id);
  size_t bytes = 0;
  EXPECT_EQ(get(descriptor, id, nullptr, 0, &bytes), CUBLAS_STATUS_SUCCESS) << attribute.id;
  EXPECT_EQ(bytes, attribute.bytes) << attribute.id;
  char value[16] = {};
  EXPECT_EQ(get(descriptor, id, value, attribute.bytes, &bytes), CUBLAS_STATUS_SUCCESS) << attribute.id;
  EXPECT_EQ(bytes, attribute.bytes) << attribute.id;
  EXPECT_EQ(std::memcmp(value, &attribute.value, attribute.bytes), 0) << attribute.id;
  for (const size_t size : {1, 2, 4, 8, 16}) {
    const auto expected = size == attribute.bytes ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
    EXPECT_EQ(set(descriptor, id, value, size), expected) << attribute.id << " with " << size << " bytes";
    EXPECT_EQ(get(descriptor, id, value, size, &bytes), expected)
        << attribute.id << " with " << size << " bytes";
  }
  EXPECT_EQ(set(descriptor, id, nullptr, attribute.bytes), CUBLAS_STATUS_INVALID_VALUE) << attribute.id;
  EXPECT_EQ(get(descriptor, id, nullptr, attribute.bytes, &bytes), CUBLAS_STATUS_INVALID_VALUE)
      << attribute.id;
}

TEST(LtDescriptors, OfMultiplications) {
  cublasLtMatmulDesc_t description = nullptr;
  ASSERT_EQ(cublasLtMatmulDescCreate(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F), CUBLAS_STATUS_SUCCESS);
  for (const Attribute& each : kMatmul)
    check<cublasLtMatmulDescAttributes_t>(each, description, cublasLtMatmulDescGetAttribute,
                                          cublasLtMatmulDescSetAttribute);
  for (const uint32_t epilogue :
       {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
        CUBLASLT_EPILOGUE_DGELU_BGRAD, CUBLASLT_EPILOGUE_BGRADA, CUBLASLT_EPILOGUE_BGRADB}) {
    EXPECT_EQ(cublasLtMatmulDescSetAttribute(description, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                             sizeof epilogue),
              CUBLAS_STATUS_SUCCESS);
    uint32_t said = 0;
    EXPECT_EQ(cublasLtMatmulDescGetAttribute(description, CUBLASLT_MATMUL_DESC_EPILOGUE, &said, sizeof said,
                                             nullptr),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(said, epilogue);
  }
  EXPECT_EQ(cublasLtMatmulDescDestroy(description), CUBLAS_STATUS_SUCCESS);
}

TEST(LtDescriptors, OfLayouts) {
  cublasLtMatrixLayout_t layout = nullptr;
  ASSERT_EQ(cublasLtMatrixLayoutCreate(&layout, CUDA_R_16BF, 3, 5, 7), CUBLAS_STATUS_SUCCESS);
  for (const Attribute& each : kLayout)
    check<cublasLtMatrixLayoutAttribute_t>(each, layout, cublasLtMatrixLayoutGetAttribute,
                                           cublasLtMatrixLayoutSetAttribute);
  EXPECT_EQ(cublasLtMatrixLayoutDestroy(layout), CUBLAS_STATUS_SUCCESS);
}

TEST(LtDescriptors, OfPreferences) {
  cublasLtMatmulPreference_t preference = nullptr;
  ASSERT_EQ(cublasLtMatmulPreferenceCreate(&preference), CUBLAS_STATUS_SUCCESS);
  for (const Attribute& each : kPreference)
    check<cublasLtMatmulPreferenceAttributes_t>(each, preference, cublasLtMatmulPreferenceGetAttribute,
                                                cublasLtMatmulPreferenceSetAttribute);
  EXPECT_EQ(cublasLtMatmulPreferenceDestroy(preference), CUBLAS_STATUS_SUCCESS);
}

TEST(LtDescriptors, InTheCallersMemory) {
  cublasLtMatrixLayoutOpaque_t layout;
  ASSERT_EQ(cublasLtMatrixLayoutInit(&layout, CUDA_R_16BF, 3, 5, 7), CUBLAS_STATUS_SUCCESS);
  for (const Attribute& each : kLayout)
    check<cublasLtMatrixLayoutAttribute_t>(each, &layout, cublasLtMatrixLayoutGetAttribute,
                                           cublasLtMatrixLayoutSetAttribute);
  cublasLtMatmulDescOpaque_t description;
  ASSERT_EQ(cublasLtMatmulDescInit(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F), CUBLAS_STATUS_SUCCESS);
  for (const Attribute& each : kMatmul)
    check<cublasLtMatmulDescAttributes_t>(each, &description, cublasLtMatmulDescGetAttribute,
                                          cublasLtMatmulDescSetAttribute);
  cublasLtMatmulPreferenceOpaque_t preference;
  ASSERT_EQ(cublasLtMatmulPreferenceInit(&preference), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cublasLtMatrixLayoutInit_internal(&layout, 8, CUDA_R_32F, 1, 1, 1), CUBLAS_STATUS_ALLOC_FAILED);
}

TEST(LtDescriptors, OfNothing) {
  EXPECT_EQ(cublasLtMatrixLayoutDestroy(nullptr), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cublasLtMatmulDescDestroy(nullptr), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cublasLtMatmulPreferenceDestroy(nullptr), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cublasLtDestroy(nullptr), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(cublasLtCreate(nullptr), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(cublasLtMatmulDescCreate(nullptr, CUBLAS_COMPUTE_32F, CUDA_R_32F), CUBLAS_STATUS_INVALID_VALUE);
  const int32_t value = 0;
  EXPECT_EQ(cublasLtMatmulDescSetAttribute(nullptr, CUBLASLT_MATMUL_DESC_TRANSA, &value, sizeof value),
            CUBLAS_STATUS_INVALID_VALUE);
  cublasLtMatmulDesc_t description = nullptr;
  ASSERT_EQ(cublasLtMatmulDescCreate(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F), CUBLAS_STATUS_SUCCESS);
  int32_t said = 0;
  EXPECT_EQ(cublasLtMatmulDescGetAttribute(description, CUBLASLT_MATMUL_DESC_TRANSA, &said, 0, nullptr),
            CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(cublasLtMatmul(nullptr, description, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                           nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, 0, nullptr),
            CUBLAS_STATUS_NOT_INITIALIZED);
  EXPECT_EQ(cublasLtMatmulDescDestroy(description), CUBLAS_STATUS_SUCCESS);
}

TEST(LtDescriptors, StatusesHaveNames) {
  for (const auto status : {CUBLAS_STATUS_SUCCESS, CUBLAS_STATUS_NOT_INITIALIZED, CUBLAS_STATUS_INVALID_VALUE,
                            CUBLAS_STATUS_NOT_SUPPORTED, CUBLAS_STATUS_EXECUTION_FAILED})
    EXPECT_EQ(std::strncmp(cublasLtGetStatusName(status), "CUBLAS_STATUS_", 14), 0);
  EXPECT_STREQ(cublasLtGetStatusString(CUBLAS_STATUS_NOT_SUPPORTED),
               "the requested functionality is not supported");
}

}  // namespace
