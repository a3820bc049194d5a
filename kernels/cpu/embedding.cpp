#include "kernels/embedding.h"

#include "kernels/cpu/simd.h"

namespace kiln::kernels::cpu::KILN_ISA {
namespace {

// Columns that one task of the backward pass owns: few enough for several tasks, enough to make fetching each
// row's piece worthwhile (pieces of 32 columns take 1.3 to 1.9 times as long as those of 96).
constexpr int64_t kColumns = 96;

}  // namespace

void embedding_forward(Context& context, const EmbeddingForward& p) {
  float* out = static_cast<float*>(p.out);
  const float* token_table = static_cast<const float*>(p.token_table);
  const float* position_table = static_cast<const float*>(p.position_table);
  const int32_t* tokens = p.tokens;
  const int64_t T = p.T, C = p.C;
  const int64_t grain = 1 + 8 * 1024 / C;  // tokens: some 32 KiB of output
  context.pool->parallel_for(p.B * T, grain, [=](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) {
      float* row = out + i * C;
      const float* token = token_table + tokens[i] * C;
      if (!position_table) {
        for_vectors(0, C, [=](auto lanes) { lanes.store(row, lanes.load(token)); });
        continue;
      }
      const float* position = position_table + i % T * C;
      for_vectors(0, C, [=](auto lanes) { lanes.store(row, lanes.load(token) + lanes.load(position)); });
    }
  });
}

// Each task owns a block of columns of both tables and walks over all tokens in order: nobody else writes
// there, and every element is summed in the order of the tokens, whatever the number of threads.
void embedding_backward(Context& context, const EmbeddingBackward& p) {
  const float* d_out = static_cast<const float*>(p.d_out);
  context.pool->parallel_for(p.C, kColumns, [&, d_out](int64_t begin, int64_t end, int) {
    for (int64_t i = 0; i < p.B * p.T; i++) {
      const float* row = d_out + i * p.C;
      float* token = p.d_token_table + p.tokens[i] * p.C;
      if (!p.d_position_table) {
        for_vectors(begin, end, [=](auto lanes) { lanes.store(token, lanes.load(token) + lanes.load(row)); });
        continue;
      }
      float* position = p.d_position_table + i % p.T * p.C;
      for_vectors(begin, end, [=](auto lanes) {
        const Vec d = lanes.load(row);
        lanes.store(token, lanes.load(token) + d);
        lanes.store(position, lanes.load(position) + d);
      });
    }
  });
}

size_t embedding_forward_workspace_bytes(const EmbeddingForward&, const Device&) {
  return 0;
}
size_t embedding_backward_workspace_bytes(const EmbeddingBackward&, const Device&) {
  return 0;
}

}  // namespace kiln::kernels::cpu::KILN_ISA
