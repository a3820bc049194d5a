// Every fault of a call of cuBLASLt planted once: what the real library refuses is refused with its status and a reason,
// the rest is a finding that says what is wrong.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "tests/cuda_emulator/findings.h"
#include "tests/cuda_emulator/libraries/tests/lt_case.h"

namespace kiln::emulator::testing {

namespace {

struct Fault {
  const char* name;
  cublasStatus_t status;
  const char* says;
  std::function<cublasStatus_t(LtCase&)> plant;  // returns what the call answers
  LtShape shape = {};
};

constexpr auto kBad = CUBLAS_STATUS_INVALID_VALUE;
constexpr auto kNo = CUBLAS_STATUS_NOT_SUPPORTED;
constexpr auto kFinding = CUBLAS_STATUS_EXECUTION_FAILED;

LtShape in_brain() {
  LtShape shape;
  shape.in = shape.out = CUDA_R_16BF;
  return shape;
}

cublasStatus_t with_epilogue(LtCase& s, uint32_t epilogue, const void* bias) {
  s.matmul.set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  s.matmul.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  return s.choose_and_run();
}

cublasStatus_t with_layout(LtCase& s, cublasLtMatrixLayoutAttribute_t attribute, auto value) {
  s.matmul.set(s.matmul.d, attribute, value);
  return s.choose_and_run();
}

cublasStatus_t described(LtCase& s, cublasLtMatmulDescAttributes_t attribute, auto value) {
  return cublasLtMatmulDescSetAttribute(s.matmul.description, attribute, &value, sizeof value);
}

const std::vector<Fault>& faults_of_descriptors() {
  static const std::vector<Fault> all = {
      {"null handle", CUBLAS_STATUS_NOT_INITIALIZED, "the handle is null",
       [](LtCase& s) {
         s.matmul.choose();
         const auto handle = s.matmul.handle;
         s.matmul.handle = nullptr;
         const auto status = s.run();
         s.matmul.handle = handle;
         return status;
       }},
      {"null layout", kBad, "Bdesc is null",
       [](LtCase& s) {
         const auto layout = s.matmul.b;
         s.matmul.b = nullptr;
         const auto status = s.matmul.choose();
         s.matmul.b = layout;
         return status;
       }},
      {"another size of an attribute", kBad, "CUBLASLT_MATMUL_DESC_TRANSA has 4 bytes, not 8",
       [](LtCase& s) { return described(s, CUBLASLT_MATMUL_DESC_TRANSA, int64_t{1}); }},
      {"a null value", kBad, "the value is null",
       [](LtCase& s) {
         return cublasLtMatmulDescSetAttribute(s.matmul.description, CUBLASLT_MATMUL_DESC_TRANSA, nullptr, 4);
       }},
      {"an attribute that is not implemented", kFinding,
       "any but the default of CUBLASLT_MATMUL_DESC_FAST_ACCUM",
       [](LtCase& s) { return described(s, CUBLASLT_MATMUL_DESC_FAST_ACCUM, int8_t{1}); }},
      {"an unknown attribute", kFinding, "attribute CUBLASLT_MATMUL_DESC_38 is not implemented",
       [](LtCase& s) { return described(s, static_cast<cublasLtMatmulDescAttributes_t>(38), int64_t{0}); }},
      {"a transpose that does not exist", kFinding, "cublasOperation_t 7 does not exist",
       [](LtCase& s) {
         described(s, CUBLASLT_MATMUL_DESC_TRANSA, int32_t{7});
         return s.matmul.choose();
       }},
      {"a transposed C", kNo, "C cannot be transposed",
       [](LtCase& s) {
         described(s, CUBLASLT_MATMUL_DESC_TRANSC, int32_t{CUBLAS_OP_T});
         return s.matmul.choose();
       }},
      {"a triangle", kFinding, "cublasFillMode_t 0 is not implemented",
       [](LtCase& s) {
         described(s, CUBLASLT_MATMUL_DESC_FILL_MODE, int32_t{CUBLAS_FILL_MODE_LOWER});
         return s.matmul.choose();
       }},
      {"tf32", kFinding, "cublasComputeType_t 77 is not implemented",
       [](LtCase& s) {
         described(s, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, int32_t{CUBLAS_COMPUTE_32F_FAST_TF32});
         return s.matmul.choose();
       }},
      {"a scale type of bf16", kNo, "scale type CUDA_R_16BF",
       [](LtCase& s) {
         described(s, CUBLASLT_MATMUL_DESC_SCALE_TYPE, int32_t{CUDA_R_16BF});
         return s.matmul.choose();
       }},
      {"vectors of alpha", kFinding, "cublasLtPointerMode_t 2 is not implemented",
       [](LtCase& s) {
         described(s, CUBLASLT_MATMUL_DESC_POINTER_MODE, int32_t{CUBLASLT_POINTER_MODE_DEVICE_VECTOR});
         return s.matmul.choose();
       }},
      {"relu", kFinding, "cublasLtEpilogue_t 2 is not implemented",
       [](LtCase& s) { return with_epilogue(s, CUBLASLT_EPILOGUE_RELU, nullptr); }},
      {"fp16", kFinding, "CUDA_R_16F is not implemented",
       [](LtCase& s) { return with_layout(s, CUBLASLT_MATRIX_LAYOUT_TYPE, uint32_t{CUDA_R_16F}); }},
      {"bf16 out of fp32",
       kNo,
       "are not in the table",
       [](LtCase& s) { return s.matmul.choose(); },
       {.out = CUDA_R_16BF}},
      {"types of A and B that differ", kNo, "are not in the table",
       [](LtCase& s) {
         s.matmul.set(s.matmul.a, CUBLASLT_MATRIX_LAYOUT_TYPE, uint32_t{CUDA_R_16BF});
         return s.matmul.choose();
       }},
      {"a small leading dimension", kBad, "D is 5 x 7, its leading dimension of 4 should be at least 5",
       [](LtCase& s) { return with_layout(s, CUBLASLT_MATRIX_LAYOUT_LD, int64_t{4}); }},
      {"a leading dimension of the wrong order", kBad,
       "D is 5 x 7, its leading dimension of 5 should be at least 7",
       [](LtCase& s) { return with_layout(s, CUBLASLT_MATRIX_LAYOUT_ORDER, int32_t{CUBLASLT_ORDER_ROW}); }},
      {"tiles", kFinding, "cublasLtOrder_t 2 is not implemented",
       [](LtCase& s) { return with_layout(s, CUBLASLT_MATRIX_LAYOUT_ORDER, int32_t{CUBLASLT_ORDER_COL32}); }},
      {"an empty matrix", kFinding, "D is 0 x 7",
       [](LtCase& s) { return with_layout(s, CUBLASLT_MATRIX_LAYOUT_ROWS, uint64_t{0}); }},
      {"shapes that do not match", kBad, "A is 5 x 3, B is 3 x 7, which does not make D 4 x 7",
       [](LtCase& s) { return with_layout(s, CUBLASLT_MATRIX_LAYOUT_ROWS, uint64_t{4}); }},
      {"a transpose forgotten", kBad, "A is 5 x 3 (transposed), B is 3 x 7, which does not make D 5 x 7",
       [](LtCase& s) {
         described(s, CUBLASLT_MATMUL_DESC_TRANSA, int32_t{CUBLAS_OP_T});
         return s.matmul.choose();
       }},
      {"C of another shape", kBad, "C is 5 x 6, D is 5 x 7",
       [](LtCase& s) {
         s.matmul.set(s.matmul.c, CUBLASLT_MATRIX_LAYOUT_COLS, uint64_t{6});
         return s.matmul.choose();
       }},
      {"batches that differ", kBad, "batches of 1 and 2",
       [](LtCase& s) { return with_layout(s, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, int32_t{2}); }},
      {"batch modes that differ", kBad, "the batch modes of the matrices differ",
       [](LtCase& s) { return with_layout(s, CUBLASLT_MATRIX_LAYOUT_BATCH_MODE, uint32_t{1}); }},
      {"an epilogue of arrays of pointers", kNo, "epilogue BIAS with arrays of pointers",
       [](LtCase& s) {
         for (const auto each : {s.matmul.a, s.matmul.b, s.matmul.c, s.matmul.d})
           s.matmul.set(each, CUBLASLT_MATRIX_LAYOUT_BATCH_MODE, uint32_t{1});
         return with_epilogue(s, CUBLASLT_EPILOGUE_BIAS, s.c_data);
       }},
      {"a bias of another type", kNo, "the vector has the type of D",
       [](LtCase& s) {
         described(s, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, int32_t{CUDA_R_16BF});
         return with_epilogue(s, CUBLASLT_EPILOGUE_BIAS, s.c_data);
       }},
      {"an auxiliary buffer's leading dimension", kBad, "EPILOGUE_AUX_LD is 5, it should be a multiple of 8",
       [](LtCase& s) {
         described(s, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{5});
         return with_epilogue(s, CUBLASLT_EPILOGUE_GELU_AUX, nullptr);
       }},
      {"no algorithm asked for", kBad, "no algorithm is asked for",
       [](LtCase& s) {
         int count = 0;
         LtMatmul& m = s.matmul;
         return cublasLtMatmulAlgoGetHeuristic(m.handle, m.description, m.a, m.b, m.c, m.d, m.preference, 0,
                                               &m.chosen, &count);
       }},
      {"reduction schemes that do not exist", kFinding, "REDUCTION_SCHEME_MASK is 0x8",
       [](LtCase& s) {
         s.matmul.prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{8});
         return s.matmul.choose();
       }},
      {"sums of rounded parts", kFinding,
       "REDUCTION_SCHEME_MASK 0x6, which lets sums be made of parts in CUDA_R_16BF",
       [](LtCase& s) {
         s.matmul.prefer(
             CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
             uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE});
         return s.matmul.choose();
       },
       in_brain()},
      {"sums of rounded parts by default", kFinding, "REDUCTION_SCHEME_MASK 0x7",
       [](LtCase& s) {
         s.matmul.prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                         uint32_t{CUBLASLT_REDUCTION_SCHEME_MASK});
         return s.matmul.choose();
       },
       in_brain()},
      {"a part of the GPU", kFinding, "any but the default of CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET",
       [](LtCase& s) { return described(s, CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, int32_t{8}); }},
      {"a number of waves", kFinding, "any but the default of CUBLASLT_MATMUL_PREF_MAX_WAVES_COUNT",
       [](LtCase& s) {
         const float waves = 1;
         return cublasLtMatmulPreferenceSetAttribute(s.matmul.preference,
                                                     CUBLASLT_MATMUL_PREF_MAX_WAVES_COUNT, &waves, 4);
       }},
      {"a choice of implementations", kFinding, "a choice of implementations is not implemented",
       [](LtCase& s) {
         s.matmul.prefer(CUBLASLT_MATMUL_PREF_IMPL_MASK, uint64_t{1});
         return s.matmul.choose();
       }},
      {"an alignment that is no power of two", kFinding, "MIN_ALIGNMENT_B_BYTES is 24",
       [](LtCase& s) {
         s.matmul.prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, uint32_t{24});
         return s.matmul.choose();
       }},
      {"a search mode", kFinding, "any but the default of CUBLASLT_MATMUL_PREF_SEARCH_MODE",
       [](LtCase& s) {
         const uint32_t mode = CUBLASLT_SEARCH_LIMITED_BY_ALGO_ID;
         return cublasLtMatmulPreferenceSetAttribute(s.matmul.preference, CUBLASLT_MATMUL_PREF_SEARCH_MODE,
                                                     &mode, 4);
       }},
  };
  return all;
}

DeviceArray<float>& some_floats() {
  static DeviceArray<float> memory(std::vector<float>(64, 1.0f));
  return memory;
}

const std::vector<Fault>& faults_of_calls() {
  static const std::vector<Fault> all = {
      {"an algorithm made up", kFinding, "does not come from cublasLtMatmulAlgoGetHeuristic",
       [](LtCase& s) { return s.run(); }},
      {"an algorithm for other strides", kFinding, "was given for another problem",
       [](LtCase& s) {
         s.matmul.choose();
         s.matmul.set(s.matmul.a, CUBLASLT_MATRIX_LAYOUT_LD, int64_t{6});
         return s.run();
       }},
      {"an algorithm for another epilogue", kFinding, "was given for another problem",
       [](LtCase& s) {
         s.matmul.choose();
         s.matmul.set(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t{CUBLASLT_EPILOGUE_GELU});
         return s.run();
       }},
      {"a workspace that is too small", kBad, "a workspace of 255 bytes; the algorithm needs 256",
       [](LtCase& s) {
         s.matmul.workspace_bytes = 255;
         return s.choose_and_run();
       }},
      {"a workspace that is smaller than said", kFinding, "out of bounds: the workspace",
       [](LtCase& s) {
         s.matmul.workspace_bytes = (1 << 17) + 1;
         return s.choose_and_run();
       }},
      {"a workspace on the host", kFinding, "the workspace is no device pointer",
       [](LtCase& s) {
         s.matmul.choose();
         LtMatmul& m = s.matmul;
         char host[256];
         return cublasLtMatmul(m.handle, m.description, &m.alpha, s.a_data, m.a, s.b_data, m.b, &m.beta,
                               s.d_data, m.c, s.d_data, m.d, &m.chosen.algo, host, sizeof host, nullptr);
       }},
      {"a workspace that is not aligned", kFinding, "the workspace is not aligned to 256 bytes",
       [](LtCase& s) {
         s.matmul.choose();
         LtMatmul& m = s.matmul;
         return cublasLtMatmul(m.handle, m.description, &m.alpha, s.a_data, m.a, s.b_data, m.b, &m.beta,
                               s.d_data, m.c, s.d_data, m.d, &m.chosen.algo, m.workspace.data() + 128, 4096,
                               nullptr);
       }},
      {"a host pointer", kFinding, "A is no device pointer",
       [](LtCase& s) {
         static float host[15];
         s.a_data = host;
         return s.choose_and_run();
       }},
      {"a null D", kFinding, "D is no device pointer: 0x0, a null pointer",
       [](LtCase& s) {
         s.d_data = nullptr;
         return s.choose_and_run();
       }},
      {"a pointer less aligned than promised", kFinding, "B is not aligned to 256 bytes",
       [](LtCase& s) {
         s.b_data = some_floats().data() + 1;
         return s.choose_and_run();
       }},
      {"a matrix that reaches out of its memory", kFinding, "out of bounds: A",
       [](LtCase& s) {
         s.matmul.prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, uint32_t{4});
         s.a_data = static_cast<float*>(s.a_data) + 1;
         return s.choose_and_run();
       }},
      {"a batch that reaches out of its memory",
       kFinding,
       "out of bounds: C",
       [](LtCase& s) {
         s.matmul.set(s.matmul.c, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, int64_t{36});
         return s.choose_and_run();
       },
       {.count = 2}},
      {"freed memory", kFinding, "freed allocation",
       [](LtCase& s) {
         s.a.reset();
         return s.choose_and_run();
       }},
      {"two layouts for one matrix", kBad, "C and D are one matrix with two layouts",
       [](LtCase& s) {
         s.c_data = s.d_data;
         s.matmul.set(s.matmul.c, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, int64_t{34});
         return s.choose_and_run();
       }},
      {"no bias", kFinding, "BIAS_POINTER is no device pointer",
       [](LtCase& s) { return with_epilogue(s, CUBLASLT_EPILOGUE_BIAS, nullptr); }},
      {"a bias that is not aligned", kFinding, "BIAS_POINTER is not aligned to 16 bytes",
       [](LtCase& s) { return with_epilogue(s, CUBLASLT_EPILOGUE_BIAS, some_floats().data() + 1); }},
      {"a bias that is too short", kFinding, "out of bounds: BIAS_POINTER",
       [](LtCase& s) { return with_epilogue(s, CUBLASLT_EPILOGUE_BIAS, some_floats().data() + 60); }},
      {"a scaled bias gradient", kFinding, "whether alpha scales the bias gradient",
       [](LtCase& s) {
         s.matmul.alpha = 2;
         return with_epilogue(s, CUBLASLT_EPILOGUE_BGRADB, some_floats().data());
       }},
      {"no alpha", kBad, "alpha is null",
       [](LtCase& s) {
         s.matmul.alpha_pointer = nullptr;
         return s.choose_and_run();
       }},
      {"beta on the device, but host mode", kFinding, "beta is a device pointer; the pointer mode says host",
       [](LtCase& s) {
         s.matmul.beta_pointer = some_floats().data();
         return s.choose_and_run();
       }},
      {"alpha on the host, but device mode", kFinding, "alpha is no device pointer",
       [](LtCase& s) {
         s.matmul.set(CUBLASLT_MATMUL_DESC_POINTER_MODE, int32_t{CUBLASLT_POINTER_MODE_DEVICE});
         return s.choose_and_run();
       }},
      {"a stream that does not exist", kFinding, "a stream that does not exist",
       [](LtCase& s) {
         s.stream = reinterpret_cast<cudaStream_t>(&s);
         return s.choose_and_run();
       }},
      {"a destroyed layout", kFinding, "one of the cuBLASLt matrix layouts that was destroyed before",
       [](LtCase& s) {
         cublasLtMatrixLayoutDestroy(s.matmul.a);
         const auto status = s.matmul.choose();
         s.matmul.a = nullptr;
         return status;
       }},
      {"a destroyed handle", kFinding, "one of the cuBLASLt handles that was destroyed before",
       [](LtCase& s) {
         cublasLtDestroy(s.matmul.handle);
         const auto status = s.choose_and_run();
         cublasLtCreate(&s.matmul.handle);
         return status;
       }},
      {"a layout in the place of a descriptor", kFinding,
       "a pointer that is none of the cuBLASLt matmul descriptors",
       [](LtCase& s) {
         const int32_t value = 0;
         cublasLtMatmulDescOpaque_t other;
         std::memcpy(&other, s.matmul.a, sizeof *s.matmul.a);
         return cublasLtMatmulDescSetAttribute(&other, CUBLASLT_MATMUL_DESC_TRANSA, &value, sizeof value);
       }},
  };
  return all;
}

void expect_caught(const std::vector<Fault>& faults) {
  for (const Fault& fault : faults) {
    FindingCapture capture;
    LtCase setup(fault.shape);
    EXPECT_EQ(fault.plant(setup), fault.status) << fault.name << "\n" << capture.all();
    EXPECT_NE(capture.all().find(fault.says), std::string::npos) << fault.name << ":\n" << capture.all();
    EXPECT_EQ(capture.findings().size(), 1u) << fault.name << ":\n" << capture.all();
    EXPECT_EQ(capture.all().find("cublasLt"), 0u) << capture.all();  // names the call
    capture.clear();
    cudaDeviceSynchronize();
    EXPECT_EQ(capture.all(), "") << fault.name;
    cudaGetLastError();
  }
}

TEST(LtFaults, OfDescriptorsAreCaught) {
  expect_caught(faults_of_descriptors());
}

TEST(LtFaults, OfCallsAreCaught) {
  expect_caught(faults_of_calls());
}

TEST(LtFaults, ImplicitAlgorithmsNeedNoWorkspace) {
  LtCase s;
  LtMatmul& m = s.matmul;
  ASSERT_EQ(cublasLtMatmul(m.handle, m.description, &m.alpha, s.a_data, m.a, s.b_data, m.b, &m.beta, s.d_data,
                           nullptr, s.d_data, m.d, nullptr, nullptr, 0, nullptr),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

TEST(LtFaults, TheHeuristicKeepsToTheWorkspaceThatIsAllowed) {
  LtCase s({.m = 40, .n = 40, .k = 2});
  ASSERT_EQ(s.matmul.choose(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(s.matmul.chosen.workspaceSize, 6400u);
  s.matmul.prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{0});
  ASSERT_EQ(s.matmul.choose(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(s.matmul.chosen.workspaceSize, 0u);
}

TEST(LtFaults, WithoutADeviceThereIsNoHandle) {
  setenv("KILN_EMULATOR_DEVICES", "-1", 1);
  FindingCapture capture;
  cublasLtHandle_t handle = nullptr;
  EXPECT_EQ(cublasLtCreate(&handle), CUBLAS_STATUS_NOT_INITIALIZED);
  unsetenv("KILN_EMULATOR_DEVICES");
  cudaGetLastError();
}

TEST(LtFaultsDeathTest, LeaksAreReportedAtExit) {
  EXPECT_EXIT(
      {
        cublasLtHandle_t handle;
        cublasLtCreate(&handle);
        cublasLtMatmulPreference_t preference;
        cublasLtMatmulPreferenceCreate(&preference);
        std::exit(0);
      },
      ::testing::ExitedWithCode(kFindingExit),
      "leaked at exit:(.|\n)*1 cuBLASLt handles\n *1 cuBLASLt matmul preferences");
}

TEST(LtFaultsDeathTest, WhatNobodyCapturesEndsTheProcess) {
  EXPECT_EXIT(
      {
        LtCase s;
        s.run();
      },
      ::testing::ExitedWithCode(kFindingExit),
      "CUDA emulator: cublasLtMatmul: the algorithm does not come from");
}

}  // namespace

}  // namespace kiln::emulator::testing
