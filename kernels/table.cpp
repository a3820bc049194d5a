#include "kernels/table.h"

#include <algorithm>

#include "kernels/cpu/common/shared.h"
#ifdef KILN_HAS_CUDA
#include "kernels/cuda/register.h"
#endif

namespace kiln::kernels {

namespace cpu {
#define KILN_VARIANT(isa) \
  namespace isa {         \
  void fill(KernelTable& table); /* kernels/cpu/register.cpp, compiled for this instruction set */ \
  }
#ifdef KILN_HAS_BASELINE
KILN_VARIANT(baseline)
#endif
#ifdef KILN_HAS_AVX2
KILN_VARIANT(avx2)
#endif
#ifdef KILN_HAS_AVX512
KILN_VARIANT(avx512)
#endif
#undef KILN_VARIANT
}  // namespace cpu

namespace {

// [instruction set][dtype]
struct CpuTables {
  KernelTable tables[kIsas][kDTypes];
  CpuTables() {
    auto& f32 = tables;
    constexpr auto kF32 = static_cast<size_t>(DType::f32);
#ifdef KILN_HAS_BASELINE
    cpu::baseline::fill(f32[static_cast<size_t>(Isa::baseline)][kF32]);
#endif
#ifdef KILN_HAS_AVX2
    cpu::avx2::fill(f32[static_cast<size_t>(Isa::avx2)][kF32]);
#endif
#ifdef KILN_HAS_AVX512
    cpu::avx512::fill(f32[static_cast<size_t>(Isa::avx512)][kF32]);
#endif
    for (auto& isa : tables) cpu::fill_shared(isa[kF32]);
    Device device;
    device.isa = Isa::avx512;
    if (has_bf16_products(device)) {
      cpu::fill_bf16(tables[static_cast<size_t>(Isa::avx512)][static_cast<size_t>(DType::bf16)]);
    }
  }
};

// [dtype]; all holes in a kiln without CUDA
struct CudaTables {
  KernelTable tables[kDTypes];
#ifdef KILN_HAS_CUDA
  CudaTables() {
    for (DType dtype : {DType::f32, DType::bf16}) cuda::fill(tables[static_cast<size_t>(dtype)], dtype);
  }
#endif
};

[[noreturn]] void refuse(const char* kernel, const Device& device, DType dtype) {
  throw Error(ExitCode::device,
              fmt::format("kernel {} is not implemented for {} on {} ({})", kernel, name_of(dtype), name_of(device.kind),
                          device.kind == DeviceKind::cpu ? name_of(device.isa) : device.name),
              "choose a precision and a device that this build supports: see kiln --version");
}

}  // namespace

const KernelTable& table(DeviceKind device, Isa isa, DType dtype) {
  static const CpuTables cpu_tables;
  static const CudaTables cuda_tables;
  if (device == DeviceKind::cuda) return cuda_tables.tables[static_cast<size_t>(dtype)];
  return cpu_tables.tables[static_cast<size_t>(isa)][static_cast<size_t>(dtype)];
}

#define KILN_DEFINE(function, Params)                                                                   \
  void function(Context& context, const Params& p) {                                                    \
    const KernelTable& t = table(context.device.kind, context.device.isa, p.dtype);                     \
    if (!t.function) refuse(#function, context.device, p.dtype);                                        \
    if (!context.dry_run) return t.function(context, p);                                                \
    DryRun& record = *context.dry_run;                                                                  \
    record.workspace_bytes = std::max(record.workspace_bytes,                                           \
                                      record.held_bytes + t.function##_workspace_bytes(p, context.device)); \
    record.flops += function##_flops(p);                                                                \
    record.kernel_flops[#function] += function##_flops(p);                                              \
    record.kernel_calls[#function]++;                                                                   \
  }
KILN_KERNELS(KILN_DEFINE)
#undef KILN_DEFINE

}  // namespace kiln::kernels
