#include "kernels/cpu/common/matmul.h"

#include <omp.h>

#include <string_view>

#include "src/core/error.h"

namespace kiln::kernels::cpu {
namespace {

using dnnl::memory;

const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

memory::desc row_major(int64_t rows, int64_t columns) {
  return {{rows, columns}, memory::data_type::f32, memory::format_tag::ab};
}

dnnl::matmul::primitive_desc describe(const MatmulShape& s) {
  use_one_openmp_thread();  // the size of the scratchpad depends on it
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (s.accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  const bool f32 = s.factors == DType::f32;
  const auto type = f32 ? memory::data_type::f32 : memory::data_type::bf16;
  const memory::desc a({s.M, s.K}, type, memory::format_tag::ab), c = row_major(s.M, s.N);
  const memory::desc b({s.K, s.N}, type, f32 ? memory::format_tag::BA16a64b : memory::format_tag::BA16a64b2a);
  const auto matmul = s.bias ? dnnl::matmul::desc(a, b, row_major(1, s.N), c) : dnnl::matmul::desc(a, b, c);
  return {matmul, attributes, engine()};
}

// dnnl::error says only "could not create a primitive": add which.
template <class Make>
auto explained(const MatmulShape& s, Make make) {
  try {
    return make();
  } catch (const dnnl::error& e) {
    throw Error(ExitCode::failure, fmt::format("oneDNN: {} (matmul {} x {} x {})", e.what(), s.M, s.N, s.K),
                "set device.isa to \"avx2\" to compute without oneDNN");
  }
}

void check(dnnl_status_t status) {
  if (status != dnnl_success) {
    throw Error(ExitCode::failure, fmt::format("oneDNN: status {} from a matmul", static_cast<int>(status)),
                "this is a bug in kiln: please report it");
  }
}

bool panels_are_fast(DType factors, std::string_view wanted) {
  try {
    const auto made = describe({128, 128, 128, false, false, factors});
    const std::string_view name = made.impl_info_str();
    return name.starts_with("brg") && name.find(wanted) != std::string_view::npos;
  } catch (const dnnl::error&) {
    return false;
  }
}

}  // namespace

bool has_packed_matmul(const Device& device) {
  static const bool fast = panels_are_fast(DType::f32, "brg");
  return device.isa == Isa::avx512 && fast;
}

bool has_packed_bf16_matmul(const Device& device) {
  static const bool fast = panels_are_fast(DType::bf16, "amx");
  return device.isa == Isa::avx512 && fast;
}

void prepare_amx() {
  constexpr int64_t kSize = 64;
  Matmul matmul({kSize, kSize, kSize, false, false, DType::bf16}, 1);
  const std::vector<uint16_t> factor(kSize * kSize);
  std::vector<float> product(factor.size());
  std::vector<char> scratch(matmul.scratch_bytes());
  matmul.run(0, factor.data(), factor.data(), nullptr, product.data(), scratch.data());
}

void use_one_openmp_thread() {
  thread_local const bool once = (omp_set_num_threads(1), true);
  (void)once;
}

size_t matmul_scratch_bytes(const MatmulShape& shape) {
  return explained(shape, [&] {
    const auto made = describe(shape);
    const dnnl::matmul compiled(made);
    return made.scratchpad_desc().get_size();
  });
}

Matmul::Matmul(const MatmulShape& shape, int workers) : bias_(shape.bias) {
  explained(shape, [&] {
    const auto made = describe(shape);
    primitive_ = dnnl::matmul(made);
    scratch_bytes_ = made.scratchpad_desc().get_size();
    for (int i = 0; i < workers; i++) {
      auto unbound = [](const memory::desc& d) { return memory(d, engine(), nullptr); };
      workers_.push_back({dnnl::stream(engine()), unbound(made.src_desc()), unbound(made.weights_desc()),
                          unbound(made.bias_desc()), unbound(made.dst_desc()),
                          unbound(made.scratchpad_desc())});
    }
    return 0;
  });
}

// The C interface: the C++ one allocates a map of arguments per call.
void Matmul::run(int worker, const void* a, const void* b, const float* bias, float* c, void* scratch) {
  use_one_openmp_thread();
  Worker& w = workers_[static_cast<size_t>(worker)];
  dnnl_exec_arg_t arguments[5];
  int count = 0;
  auto bind = [&](int argument, memory& m, const void* data) {
    check(dnnl_memory_set_data_handle(m.get(), const_cast<void*>(data)));
    arguments[count++] = {argument, m.get()};
  };
  bind(DNNL_ARG_SRC, w.a, a);
  bind(DNNL_ARG_WEIGHTS, w.b, b);
  bind(DNNL_ARG_DST, w.c, c);
  bind(DNNL_ARG_SCRATCHPAD, w.scratch, scratch);
  if (bias_) bind(DNNL_ARG_BIAS, w.bias, bias);
  check(dnnl_primitive_execute(primitive_.get(), w.stream.get(), count, arguments));
}

}  // namespace kiln::kernels::cpu
