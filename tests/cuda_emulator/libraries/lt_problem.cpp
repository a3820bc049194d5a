#include "tests/cuda_emulator/libraries/lt_problem.h"

#include <limits>

#include "tests/cuda_emulator/libraries/blas_common.h"

namespace kiln::emulator {

namespace {

constexpr uint32_t kPointerArray = 1;  // CUBLASLT_BATCH_MODE_POINTER_ARRAY, which CUDA 12 lacks

void check_layout(const LayoutData& layout, const char* name) {
  const auto type = static_cast<cudaDataType>(layout.type);
  element_bytes(type);
  if (layout.order != CUBLASLT_ORDER_COL && layout.order != CUBLASLT_ORDER_ROW)
    not_implemented(fmt::format("{}: cublasLtOrder_t {}", name, layout.order));
  if (layout.rows == 0 || layout.columns == 0)
    throw Finding(fmt::format("{} is {} x {}: what becomes of empty matrices is not documented", name,
                              layout.rows, layout.columns));
  constexpr uint64_t kMost = std::numeric_limits<int32_t>::max();
  refuse_unless(layout.rows <= kMost && layout.columns <= kMost, CUBLAS_STATUS_NOT_SUPPORTED,
                fmt::format("{} is {} x {}", name, layout.rows, layout.columns));
  const bool by_columns = layout.order == CUBLASLT_ORDER_COL;
  const uint64_t least = by_columns ? layout.rows : layout.columns;
  if (layout.ld == 0) not_implemented(fmt::format("{}: a leading dimension of 0", name));
  invalid_unless(layout.ld > 0 && static_cast<uint64_t>(layout.ld) >= least,
                 fmt::format("{} is {} x {}, its leading dimension of {} should be at least {}", name,
                             layout.rows, layout.columns, layout.ld, least));
  invalid_unless(layout.batch_count >= 1, fmt::format("{}: a batch of {}", name, layout.batch_count));
  if (layout.batch_mode > kPointerArray)
    not_implemented(fmt::format("{}: batch mode {}", name, layout.batch_mode));
  if (layout.batch_stride < 0) not_implemented(fmt::format("{}: a negative batch stride", name));
}

void check_types(const LtProblem& p) {
  const int32_t compute = p.description.compute;
  if (compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_PEDANTIC)
    not_implemented(fmt::format("cublasComputeType_t {}", compute));
  const auto name = [](int32_t type) { return type_name(static_cast<cudaDataType>(type)); };
  refuse_unless(p.description.scale_type == CUDA_R_32F, CUBLAS_STATUS_NOT_SUPPORTED,
                fmt::format("scale type {} with CUBLAS_COMPUTE_32F", name(p.description.scale_type)));
  // The rows of the documented table that have no types but these.
  const bool same_inputs = p.a.type == p.b.type, same_outputs = p.c.type == p.d.type;
  const bool listed = p.a.type == CUDA_R_16BF || p.d.type == CUDA_R_32F;
  refuse_unless(same_inputs && same_outputs && listed, CUBLAS_STATUS_NOT_SUPPORTED,
                fmt::format("the types A {}, B {}, C {}, D {} are not in the table", name(p.a.type),
                            name(p.b.type), name(p.c.type), name(p.d.type)));
}

void check_shapes(const LtProblem& p) {
  const auto shape = [](const LayoutData& l) { return fmt::format("{} x {}", l.rows, l.columns); };
  const MatmulData& d = p.description;
  const bool ta = is_transposed(d.transpose_a), tb = is_transposed(d.transpose_b);
  const int64_t b_rows = static_cast<int64_t>(tb ? p.b.columns : p.b.rows);
  invalid_unless(
      static_cast<int64_t>(p.d.rows) == p.m && static_cast<int64_t>(p.d.columns) == p.n && b_rows == p.k,
      fmt::format("A is {}{}, B is {}{}, which does not make D {}", shape(p.a), ta ? " (transposed)" : "",
                  shape(p.b), tb ? " (transposed)" : "", shape(p.d)));
  invalid_unless(p.c.rows == p.d.rows && p.c.columns == p.d.columns && p.c.order == p.d.order,
                 fmt::format("C is {}, D is {}: shape and order must agree", shape(p.c), shape(p.d)));
  for (const LayoutData* each : {&p.a, &p.b, &p.c}) {
    invalid_unless(each->batch_count == p.d.batch_count,
                   fmt::format("batches of {} and {}", each->batch_count, p.d.batch_count));
    invalid_unless(each->batch_mode == p.d.batch_mode, "the batch modes of the matrices differ");
  }
}

void check_description(const MatmulData& d) {
  if (d.pointer_mode != CUBLASLT_POINTER_MODE_HOST && d.pointer_mode != CUBLASLT_POINTER_MODE_DEVICE)
    not_implemented(fmt::format("cublasLtPointerMode_t {}", d.pointer_mode));
  refuse_unless(!is_transposed(d.transpose_c), CUBLAS_STATUS_NOT_SUPPORTED, "C cannot be transposed");
  if (d.fill_mode != CUBLAS_FILL_MODE_FULL) not_implemented(fmt::format("cublasFillMode_t {}", d.fill_mode));
}

void check_epilogue(const LtProblem& p) {
  const MatmulData& d = p.description;
  const LtEpilogue epilogue = lt_epilogue(d.epilogue);
  const std::string name = epilogue_name(d.epilogue);
  const bool plain = d.epilogue == CUBLASLT_EPILOGUE_DEFAULT;
  refuse_unless(plain || !p.pointer_arrays, CUBLAS_STATUS_NOT_SUPPORTED,
                fmt::format("epilogue {} with arrays of pointers", name));
  for (const LayoutData* each : {&p.a, &p.b, &p.d}) {
    if (!plain && each->order != CUBLASLT_ORDER_COL)
      not_implemented(fmt::format("epilogue {} of row-major matrices", name));
  }
  if (epilogue.has_bias()) {
    refuse_unless(d.bias_type == -1 || d.bias_type == p.d.type, CUBLAS_STATUS_NOT_SUPPORTED,
                  fmt::format("BIAS_DATA_TYPE {}: the vector has the type of D, {}",
                              type_name(static_cast<cudaDataType>(d.bias_type)),
                              type_name(static_cast<cudaDataType>(p.d.type))));
  }
  if (epilogue.has_aux()) {
    refuse_unless(d.aux_type == -1 || d.aux_type == p.d.type, CUBLAS_STATUS_NOT_SUPPORTED,
                  "EPILOGUE_AUX_DATA_TYPE: the buffer has the type of D");
    invalid_unless(
        d.aux_ld % 8 == 0 && d.aux_ld >= p.m,
        fmt::format("EPILOGUE_AUX_LD is {}, it should be a multiple of 8 and at least {}", d.aux_ld, p.m));
    invalid_unless(d.aux_stride % 8 == 0,
                   fmt::format("EPILOGUE_AUX_BATCH_STRIDE is {}, no multiple of 8", d.aux_stride));
  }
}

struct NamedEpilogue {
  uint32_t value;
  const char* name;
  LtEpilogue parts;
};

constexpr NamedEpilogue kEpilogues[] = {
    {CUBLASLT_EPILOGUE_DEFAULT, "DEFAULT", {}},
    {CUBLASLT_EPILOGUE_BIAS, "BIAS", {.adds_bias = true}},
    {CUBLASLT_EPILOGUE_GELU, "GELU", {.gelu = true}},
    {CUBLASLT_EPILOGUE_GELU_BIAS, "GELU_BIAS", {.adds_bias = true, .gelu = true}},
    {CUBLASLT_EPILOGUE_GELU_AUX, "GELU_AUX", {.gelu = true, .writes_aux = true}},
    {CUBLASLT_EPILOGUE_GELU_AUX_BIAS, "GELU_AUX_BIAS", {.adds_bias = true, .gelu = true, .writes_aux = true}},
    {CUBLASLT_EPILOGUE_DGELU, "DGELU", {.gelu_gradient = true}},
    {CUBLASLT_EPILOGUE_DGELU_BGRAD, "DGELU_BGRAD", {.gelu_gradient = true, .bias_gradient = true}},
    {CUBLASLT_EPILOGUE_BGRADA, "BGRADA", {.bias_gradient_a = true}},
    {CUBLASLT_EPILOGUE_BGRADB, "BGRADB", {.bias_gradient_b = true}},
};

const NamedEpilogue& epilogue_of(uint32_t value) {
  for (const NamedEpilogue& each : kEpilogues) {
    if (each.value == value) return each;
  }
  not_implemented(fmt::format("cublasLtEpilogue_t {}", value));
}

}  // namespace

LtEpilogue lt_epilogue(uint32_t epilogue) {
  return epilogue_of(epilogue).parts;
}

std::string epilogue_name(uint32_t epilogue) {
  return epilogue_of(epilogue).name;
}

LtProblem lt_problem(cublasLtMatmulDesc_t description, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                     cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d) {
  LtProblem p{};
  p.description = matmul_data(description);
  p.a = layout_data(a, "A");
  p.b = layout_data(b, "B");
  p.d = layout_data(d, "D");
  p.c = c == nullptr ? p.d : layout_data(c, "C");
  check_description(p.description);
  check_layout(p.a, "A");
  check_layout(p.b, "B");
  check_layout(p.c, "C");
  check_layout(p.d, "D");
  const bool transposed = is_transposed(p.description.transpose_a);
  p.m = static_cast<int64_t>(transposed ? p.a.columns : p.a.rows);
  p.k = static_cast<int64_t>(transposed ? p.a.rows : p.a.columns);
  p.n = static_cast<int64_t>(is_transposed(p.description.transpose_b) ? p.b.rows : p.b.columns);
  p.count = p.d.batch_count;
  p.pointer_arrays = p.d.batch_mode == kPointerArray;
  check_shapes(p);
  check_types(p);
  check_epilogue(p);
  return p;
}

uint64_t problem_key(const LtProblem& p) {
  uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&hash](auto value) { hash = (hash ^ static_cast<uint64_t>(value)) * 0x100000001b3; };
  const MatmulData& d = p.description;
  for (const int32_t each :
       {d.compute, d.scale_type, d.pointer_mode, d.transpose_a, d.transpose_b, d.bias_type, d.aux_type})
    add(each);
  add(d.epilogue);
  for (const int64_t each : {d.bias_stride, d.aux_ld, d.aux_stride}) add(each);
  for (const LayoutData* each : {&p.a, &p.b, &p.c, &p.d}) {
    add(each->type);
    add(each->order);
    add(each->rows);
    add(each->columns);
    add(each->ld);
    add(each->batch_count);
    add(each->batch_mode);
    add(each->batch_stride);
  }
  return hash;
}

DeviceMatrix stored_matrix(const LayoutData& layout, uint64_t address) {
  const bool by_columns = layout.order == CUBLASLT_ORDER_COL;
  return {address,
          static_cast<cudaDataType>(layout.type),
          static_cast<int64_t>(layout.rows),
          static_cast<int64_t>(layout.columns),
          by_columns ? 1 : layout.ld,
          by_columns ? layout.ld : 1};
}

}  // namespace kiln::emulator
