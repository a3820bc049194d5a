// The table of kernels: its holes, refusals, and the dry run.
#include <algorithm>

#include "src/device/cuda.h"
#include "tests/kernels/support.h"

namespace kiln::tests {
namespace {

struct Entry {
  std::string name;
  bool kernel, workspace_bytes;
};
std::vector<Entry> entries(const kernels::KernelTable& t) {
  std::vector<Entry> list;
#define KILN_ENTRY(function, Params) \
  list.push_back({#function, t.function != nullptr, t.function##_workspace_bytes != nullptr});
  KILN_KERNELS(KILN_ENTRY)
#undef KILN_ENTRY
  return list;
}

TEST(Table, EveryCpuKernelComputesInFp32) {
  for (Isa isa : isas()) {
    for (const Entry& e : entries(kernels::table(DeviceKind::cpu, isa, DType::f32))) {
      EXPECT_TRUE(e.kernel && e.workspace_bytes) << name_of(isa) << " " << e.name;
    }
  }
}

// What there is for GPUs, in both precisions.
bool on_cuda(std::string_view kernel) {
  constexpr std::string_view kKernels[] = {
      "layernorm_forward", "layernorm_backward", "rmsnorm_forward",  "rmsnorm_backward", "gelu_forward",
      "gelu_backward",     "swiglu_forward",     "swiglu_backward",  "residual_forward", "softmax_cross_entropy",
      "linear_forward", "linear_backward_input", "linear_backward_weight"};
  return has_cuda() && std::find(std::begin(kKernels), std::end(kKernels), kernel) != std::end(kKernels);
}

// When one of these is implemented, this test says so: write the kernel's own tests then.
TEST(Table, NothingElseIsImplemented) {
  for (Isa isa : isas()) {
    const bool products = kernels::has_bf16_products(cpu_device(1, name_of(isa)));
    for (const Entry& e : entries(kernels::table(DeviceKind::cpu, isa, DType::bf16))) {
      const bool expected = products && e.name == "matrix_product";
      EXPECT_EQ(e.kernel && e.workspace_bytes, expected) << name_of(isa) << " " << e.name;
    }
    for (DType dtype : {DType::f32, DType::bf16}) {
      for (const Entry& e : entries(kernels::table(DeviceKind::cuda, isa, dtype))) {
        EXPECT_EQ(e.kernel && e.workspace_bytes, on_cuda(e.name)) << name_of(dtype) << " " << e.name;
      }
    }
  }
}

template <class Params>
void expect_refusal(const char* name, void (*kernel)(Context&, const Params&), DeviceKind device,
                    DType dtype) {
  Context context;
  context.device = cpu_device(1);
  context.device.kind = device;
  Params p{};
  p.dtype = dtype;
  try {
    kernel(context, p);
    ADD_FAILURE() << name << " ran";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::device);
    for (std::string_view part : {std::string_view(name), name_of(dtype), name_of(device)}) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what() << " lacks " << part;
    }
    EXPECT_FALSE(error.hint().empty());
  }
}

TEST(Table, HolesAreRefusedByName) {
#define KILN_REFUSED(function, Params)                                                            \
  if (!std::is_same_v<kernels::Params, kernels::MatrixProduct>) {                                 \
    expect_refusal<kernels::Params>(#function, &kernels::function, DeviceKind::cpu, DType::bf16); \
  }                                                                                               \
  if (!on_cuda(#function)) {                                                                      \
    expect_refusal<kernels::Params>(#function, &kernels::function, DeviceKind::cuda, DType::f32); \
  }
  KILN_KERNELS(KILN_REFUSED)
#undef KILN_REFUSED
}

// No pool, no pointers: a dry run only adds up what each call announces.
TEST(Table, DryRunRecordsWithoutComputing) {
  for (Isa isa : isas()) {
    Context context;
    context.device = cpu_device(2, name_of(isa));
    DryRun record;
    context.dry_run = &record;

    kernels::LayerNormBackward norm{};
    norm.rows = 1000;
    norm.C = 65;
    kernels::layernorm_backward(context, norm);
    kernels::layernorm_backward(context, norm);
    kernels::SumOfSquares squares{};
    squares.n = 1 << 20;
    kernels::sum_of_squares(context, squares);
    kernels::GeluForward gelu{};
    gelu.n = 12;
    kernels::gelu_forward(context, gelu);
    kernels::LinearForward linear{};
    linear.rows = 3;
    linear.N = linear.ld_out = 5;
    linear.K = 7;
    const double linear_flops = kernels::linear_forward_flops(linear);
    EXPECT_EQ(linear_flops, 2 * 3 * 5 * 7);
    kernels::AttentionForward attention{};
    attention.B = 2;
    attention.T = 10;
    attention.heads = attention.kv_heads = 3;
    attention.head_size = 4;
    attention.q_stride = attention.k_stride = attention.v_stride = 12;
    kernels::attention_forward(context, attention);

    const auto& t = kernels::table(DeviceKind::cpu, isa, DType::f32);
    const size_t norm_bytes = t.layernorm_backward_workspace_bytes(norm, context.device);
    const size_t squares_bytes = t.sum_of_squares_workspace_bytes(squares, context.device);
    const size_t attention_bytes = t.attention_forward_workspace_bytes(attention, context.device);
    EXPECT_GT(norm_bytes, 0u);
    EXPECT_GT(squares_bytes, 0u);
    EXPECT_EQ(record.workspace_bytes, std::max({norm_bytes, squares_bytes, attention_bytes}));
    EXPECT_EQ(record.kernel_calls["layernorm_backward"], 2);
    EXPECT_EQ(record.kernel_calls["sum_of_squares"], 1);
    EXPECT_EQ(record.kernel_calls["gelu_forward"], 1);
    EXPECT_EQ(record.kernel_calls["attention_forward"], 1);
    EXPECT_EQ(record.kernel_calls.size(), 4u);
    // Two causal products of 10 x 10 / 2 x 4 for each of 6 heads, two operations a multiply-add.
    EXPECT_EQ(record.flops, 2 * 2 * 6 * 50 * 4);
    EXPECT_EQ(record.kernel_flops["attention_forward"], record.flops);
  }
}

}  // namespace
}  // namespace kiln::tests
