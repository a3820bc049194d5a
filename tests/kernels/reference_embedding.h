// Embedding in fp64, straight from the definition.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace kiln::tests::reference {

// out[b,t,:] = token_table[tokens[b,t],:] + position_table[t,:] (an empty position table counts as zeros)
inline std::vector<double> embedding_forward(const std::vector<int32_t>& tokens,
                                             const std::vector<double>& token_table,
                                             const std::vector<double>& position_table, int64_t B, int64_t T,
                                             int64_t C) {
  std::vector<double> out(static_cast<size_t>(B * T * C));
  for (int64_t b = 0; b < B; b++) {
    for (int64_t t = 0; t < T; t++) {
      const int64_t token = tokens[static_cast<size_t>(b * T + t)];
      for (int64_t c = 0; c < C; c++) {
        const double position = position_table.empty() ? 0 : position_table[static_cast<size_t>(t * C + c)];
        out[static_cast<size_t>((b * T + t) * C + c)] =
            token_table[static_cast<size_t>(token * C + c)] + position;
      }
    }
  }
  return out;
}

// Adds the gradient to both tables (an empty position table is left out).
inline void embedding_backward(const std::vector<int32_t>& tokens, const std::vector<double>& d_out,
                               std::vector<double>& d_token_table, std::vector<double>& d_position_table,
                               int64_t B, int64_t T, int64_t C) {
  for (int64_t b = 0; b < B; b++) {
    for (int64_t t = 0; t < T; t++) {
      const int64_t token = tokens[static_cast<size_t>(b * T + t)];
      for (int64_t c = 0; c < C; c++) {
        const double d = d_out[static_cast<size_t>((b * T + t) * C + c)];
        d_token_table[static_cast<size_t>(token * C + c)] += d;
        if (!d_position_table.empty()) d_position_table[static_cast<size_t>(t * C + c)] += d;
      }
    }
  }
}

}  // namespace kiln::tests::reference
