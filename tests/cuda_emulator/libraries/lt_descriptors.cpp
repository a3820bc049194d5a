#include "tests/cuda_emulator/libraries/lt_descriptors.h"

#include <cstddef>
#include <cstring>
#include <span>

#include "tests/cuda_emulator/libraries/blas_common.h"
#include "tests/cuda_emulator/libraries/objects.h"

namespace kiln::emulator {

namespace {

constexpr size_t kNowhere = SIZE_MAX;

struct Attribute {
  int id;
  const char* name;
  size_t bytes;
  size_t offset;      // in the data; kNowhere: not implemented, so that it must keep its value
  int64_t value = 0;  // by default
};

constexpr Attribute kLayoutAttributes[] = {
    {CUBLASLT_MATRIX_LAYOUT_TYPE, "TYPE", 4, offsetof(LayoutData, type)},
    {CUBLASLT_MATRIX_LAYOUT_ORDER, "ORDER", 4, offsetof(LayoutData, order), CUBLASLT_ORDER_COL},
    {CUBLASLT_MATRIX_LAYOUT_ROWS, "ROWS", 8, offsetof(LayoutData, rows)},
    {CUBLASLT_MATRIX_LAYOUT_COLS, "COLS", 8, offsetof(LayoutData, columns)},
    {CUBLASLT_MATRIX_LAYOUT_LD, "LD", 8, offsetof(LayoutData, ld)},
    {CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, "BATCH_COUNT", 4, offsetof(LayoutData, batch_count), 1},
    {CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, "STRIDED_BATCH_OFFSET", 8,
     offsetof(LayoutData, batch_stride)},
    {CUBLASLT_MATRIX_LAYOUT_PLANE_OFFSET, "PLANE_OFFSET", 8, kNowhere},
    {8, "BATCH_MODE", 4, offsetof(LayoutData, batch_mode)},  // CUDA 13's CUBLASLT_MATRIX_LAYOUT_BATCH_MODE
};

constexpr Attribute kMatmulAttributes[] = {
    {CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, "COMPUTE_TYPE", 4, offsetof(MatmulData, compute)},
    {CUBLASLT_MATMUL_DESC_SCALE_TYPE, "SCALE_TYPE", 4, offsetof(MatmulData, scale_type)},
    {CUBLASLT_MATMUL_DESC_POINTER_MODE, "POINTER_MODE", 4, offsetof(MatmulData, pointer_mode)},
    {CUBLASLT_MATMUL_DESC_TRANSA, "TRANSA", 4, offsetof(MatmulData, transpose_a)},
    {CUBLASLT_MATMUL_DESC_TRANSB, "TRANSB", 4, offsetof(MatmulData, transpose_b)},
    {CUBLASLT_MATMUL_DESC_TRANSC, "TRANSC", 4, offsetof(MatmulData, transpose_c)},
    {CUBLASLT_MATMUL_DESC_FILL_MODE, "FILL_MODE", 4, offsetof(MatmulData, fill_mode), CUBLAS_FILL_MODE_FULL},
    {CUBLASLT_MATMUL_DESC_EPILOGUE, "EPILOGUE", 4, offsetof(MatmulData, epilogue), CUBLASLT_EPILOGUE_DEFAULT},
    {CUBLASLT_MATMUL_DESC_BIAS_POINTER, "BIAS_POINTER", 8, offsetof(MatmulData, bias)},
    {CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, "BIAS_BATCH_STRIDE", 8, offsetof(MatmulData, bias_stride)},
    {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, "EPILOGUE_AUX_POINTER", 8, offsetof(MatmulData, aux)},
    {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, "EPILOGUE_AUX_LD", 8, offsetof(MatmulData, aux_ld)},
    {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, "EPILOGUE_AUX_BATCH_STRIDE", 8,
     offsetof(MatmulData, aux_stride)},
    {CUBLASLT_MATMUL_DESC_ALPHA_VECTOR_BATCH_STRIDE, "ALPHA_VECTOR_BATCH_STRIDE", 8, kNowhere},
    {CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, "SM_COUNT_TARGET", 4, kNowhere},
    {CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, "A_SCALE_POINTER", 8, kNowhere},
    {CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, "B_SCALE_POINTER", 8, kNowhere},
    {CUBLASLT_MATMUL_DESC_C_SCALE_POINTER, "C_SCALE_POINTER", 8, kNowhere},
    {CUBLASLT_MATMUL_DESC_D_SCALE_POINTER, "D_SCALE_POINTER", 8, kNowhere},
    {CUBLASLT_MATMUL_DESC_AMAX_D_POINTER, "AMAX_D_POINTER", 8, kNowhere},
    {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, "EPILOGUE_AUX_DATA_TYPE", 4, offsetof(MatmulData, aux_type),
     -1},
    {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_SCALE_POINTER, "EPILOGUE_AUX_SCALE_POINTER", 8, kNowhere},
    {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_AMAX_POINTER, "EPILOGUE_AUX_AMAX_POINTER", 8, kNowhere},
    {CUBLASLT_MATMUL_DESC_FAST_ACCUM, "FAST_ACCUM", 1, kNowhere},
    {CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, "BIAS_DATA_TYPE", 4, offsetof(MatmulData, bias_type), -1},
};

constexpr Attribute kPreferenceAttributes[] = {
    {CUBLASLT_MATMUL_PREF_SEARCH_MODE, "SEARCH_MODE", 4, kNowhere},
    {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, "MAX_WORKSPACE_BYTES", 8,
     offsetof(PreferenceData, max_workspace)},
    {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, "REDUCTION_SCHEME_MASK", 4,
     offsetof(PreferenceData, reduction_schemes), CUBLASLT_REDUCTION_SCHEME_MASK},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, "MIN_ALIGNMENT_A_BYTES", 4,
     offsetof(PreferenceData, alignment_a), 256},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, "MIN_ALIGNMENT_B_BYTES", 4,
     offsetof(PreferenceData, alignment_b), 256},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, "MIN_ALIGNMENT_C_BYTES", 4,
     offsetof(PreferenceData, alignment_c), 256},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, "MIN_ALIGNMENT_D_BYTES", 4,
     offsetof(PreferenceData, alignment_d), 256},
    {CUBLASLT_MATMUL_PREF_MAX_WAVES_COUNT, "MAX_WAVES_COUNT", 4, kNowhere},
    {CUBLASLT_MATMUL_PREF_IMPL_MASK, "IMPL_MASK", 8, offsetof(PreferenceData, implementations), -1},
};

// One kind of descriptor: what it is called, how its data begins, and what it says.
struct Kind {
  const char* name;
  const char* prefix;
  uint64_t mark;
  std::span<const Attribute> attributes;
};

constexpr Kind kLayout{"cuBLASLt matrix layouts", "CUBLASLT_MATRIX_LAYOUT_", 0x4b494c4e4c41594f,
                       kLayoutAttributes};
constexpr Kind kMatmul{"cuBLASLt matmul descriptors", "CUBLASLT_MATMUL_DESC_", 0x4b494c4e4d415455,
                       kMatmulAttributes};
constexpr Kind kPreference{"cuBLASLt matmul preferences", "CUBLASLT_MATMUL_PREF_", 0x4b494c4e50524546,
                           kPreferenceAttributes};

static_assert(sizeof(LayoutData) <= sizeof(cublasLtMatrixLayoutOpaque_t));
static_assert(sizeof(MatmulData) <= sizeof(cublasLtMatmulDescOpaque_t));
static_assert(sizeof(PreferenceData) <= sizeof(cublasLtMatmulPreferenceOpaque_t));

void initialise(void* opaque, size_t bytes, const Kind& kind) {
  std::memset(opaque, 0, bytes);
  std::memcpy(opaque, &kind.mark, sizeof kind.mark);
  for (const Attribute& each : kind.attributes) {
    if (each.offset != kNowhere)
      std::memcpy(static_cast<std::byte*>(opaque) + each.offset, &each.value, each.bytes);
  }
}

// A descriptor in the caller's memory cannot be known to be alive; one that was created can.
std::byte* data_of(void* opaque, const Kind& kind) {
  if (is_object(opaque, kind.name)) require_object(opaque, kind.name);
  if (std::memcmp(opaque, &kind.mark, sizeof kind.mark) != 0)
    throw Finding(fmt::format("a pointer that is none of the {}", kind.name));
  return static_cast<std::byte*>(opaque);
}

const Attribute* find(const Kind& kind, int id) {
  for (const Attribute& each : kind.attributes) {
    if (each.id == id) return &each;
  }
  return nullptr;
}

void set(void* opaque, const Kind& kind, int id, const void* value, size_t bytes) {
  invalid_unless(opaque != nullptr, "the descriptor is null");
  std::byte* data = data_of(opaque, kind);
  const Attribute* attribute = find(kind, id);
  if (attribute == nullptr) not_implemented(fmt::format("attribute {}{}", kind.prefix, id));
  invalid_unless(value != nullptr, fmt::format("{}{}: the value is null", kind.prefix, attribute->name));
  invalid_unless(bytes == attribute->bytes, fmt::format("{}{} has {} bytes, not {}", kind.prefix,
                                                        attribute->name, attribute->bytes, bytes));
  if (attribute->offset != kNowhere) {
    std::memcpy(data + attribute->offset, value, bytes);
  } else if (std::memcmp(value, &attribute->value, bytes) != 0) {
    not_implemented(fmt::format("any but the default of {}{}", kind.prefix, attribute->name));
  }
}

void get(void* opaque, const Kind& kind, int id, void* value, size_t bytes, size_t* written) {
  invalid_unless(opaque != nullptr, "the descriptor is null");
  const std::byte* data = data_of(opaque, kind);
  const Attribute* attribute = find(kind, id);
  if (attribute == nullptr) not_implemented(fmt::format("attribute {}{}", kind.prefix, id));
  invalid_unless(bytes != 0 || written != nullptr, "no size and nowhere to say it");
  if (bytes != 0) {
    invalid_unless(value != nullptr,
                   fmt::format("{}{}: nowhere to put the value", kind.prefix, attribute->name));
    invalid_unless(bytes == attribute->bytes, fmt::format("{}{} has {} bytes, not {}", kind.prefix,
                                                          attribute->name, attribute->bytes, bytes));
    const void* from = attribute->offset == kNowhere ? static_cast<const void*>(&attribute->value)
                                                     : data + attribute->offset;
    std::memcpy(value, from, bytes);
  }
  if (written != nullptr) *written = attribute->bytes;
}

template <class Opaque>
Opaque* create(Opaque** handle, const Kind& kind) {
  invalid_unless(handle != nullptr, "nowhere to put the descriptor");
  *handle = make_object<Opaque>(kind.name);
  initialise(*handle, sizeof(Opaque), kind);
  return *handle;
}

// The real library takes null for done.
void destroy(void* opaque, const Kind& kind) {
  if (opaque != nullptr) remove_object(opaque, kind.name);
}

void initialise_in_place(void* opaque, size_t bytes, size_t needed, const Kind& kind) {
  invalid_unless(opaque != nullptr, "the descriptor is null");
  refuse_unless(bytes >= needed, CUBLAS_STATUS_ALLOC_FAILED, fmt::format("{} bytes are not enough", bytes));
  initialise(opaque, needed, kind);
}

void fill_layout(void* opaque, cudaDataType type, uint64_t rows, uint64_t columns, int64_t ld) {
  LayoutData data;
  std::memcpy(&data, opaque, sizeof data);
  data.type = type;
  data.rows = rows;
  data.columns = columns;
  data.ld = ld;
  std::memcpy(opaque, &data, sizeof data);
}

void fill_matmul(void* opaque, cublasComputeType_t compute, cudaDataType_t scale_type) {
  MatmulData data;
  std::memcpy(&data, opaque, sizeof data);
  data.compute = compute;
  data.scale_type = scale_type;
  std::memcpy(opaque, &data, sizeof data);
}

}  // namespace

const LayoutData& layout_data(cublasLtMatrixLayout_t layout, const char* name) {
  invalid_unless(layout != nullptr, fmt::format("{}desc is null", name));
  return *reinterpret_cast<const LayoutData*>(data_of(layout, kLayout));
}

const MatmulData& matmul_data(cublasLtMatmulDesc_t description) {
  invalid_unless(description != nullptr, "the matmul descriptor is null");
  return *reinterpret_cast<const MatmulData*>(data_of(description, kMatmul));
}

const PreferenceData& preference_data(cublasLtMatmulPreference_t preference) {
  invalid_unless(preference != nullptr, "the preference is null");
  return *reinterpret_cast<const PreferenceData*>(data_of(preference, kPreference));
}

}  // namespace kiln::emulator

using namespace kiln::emulator;

extern "C" {

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
  return blas_answer("cublasLtMatrixLayoutCreate",
                     [&] { fill_layout(create(layout, kLayout), type, rows, columns, ld); });
}

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t bytes,
                                                 cudaDataType type, uint64_t rows, uint64_t columns,
                                                 int64_t ld) {
  return blas_answer("cublasLtMatrixLayoutInit", [&] {
    initialise_in_place(layout, bytes, sizeof *layout, kLayout);
    fill_layout(layout, type, rows, columns, ld);
  });
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return blas_answer("cublasLtMatrixLayoutDestroy", [&] { destroy(layout, kLayout); });
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                size_t bytes) {
  return blas_answer("cublasLtMatrixLayoutSetAttribute",
                     [&] { set(layout, kLayout, attribute, value, bytes); });
}

cublasStatus_t cublasLtMatrixLayoutGetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, void* value,
                                                size_t bytes, size_t* written) {
  return blas_answer("cublasLtMatrixLayoutGetAttribute",
                     [&] { get(layout, kLayout, attribute, value, bytes, written); });
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description, cublasComputeType_t compute,
                                        cudaDataType_t scale_type) {
  return blas_answer("cublasLtMatmulDescCreate",
                     [&] { fill_matmul(create(description, kMatmul), compute, scale_type); });
}

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t description, size_t bytes,
                                               cublasComputeType_t compute, cudaDataType_t scale_type) {
  return blas_answer("cublasLtMatmulDescInit", [&] {
    initialise_in_place(description, bytes, sizeof *description, kMatmul);
    fill_matmul(description, compute, scale_type);
  });
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
  return blas_answer("cublasLtMatmulDescDestroy", [&] { destroy(description, kMatmul); });
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              size_t bytes) {
  return blas_answer("cublasLtMatmulDescSetAttribute",
                     [&] { set(description, kMatmul, attribute, value, bytes); });
}

cublasStatus_t cublasLtMatmulDescGetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute, void* value,
                                              size_t bytes, size_t* written) {
  return blas_answer("cublasLtMatmulDescGetAttribute",
                     [&] { get(description, kMatmul, attribute, value, bytes, written); });
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return blas_answer("cublasLtMatmulPreferenceCreate", [&] { create(preference, kPreference); });
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference, size_t bytes) {
  return blas_answer("cublasLtMatmulPreferenceInit",
                     [&] { initialise_in_place(preference, bytes, sizeof *preference, kPreference); });
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return blas_answer("cublasLtMatmulPreferenceDestroy", [&] { destroy(preference, kPreference); });
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  return blas_answer("cublasLtMatmulPreferenceSetAttribute",
                     [&] { set(preference, kPreference, attribute, value, bytes); });
}

cublasStatus_t cublasLtMatmulPreferenceGetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    void* value, size_t bytes, size_t* written) {
  return blas_answer("cublasLtMatmulPreferenceGetAttribute",
                     [&] { get(preference, kPreference, attribute, value, bytes, written); });
}

}  // extern "C"
