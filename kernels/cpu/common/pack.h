// Rearranging matrices for the GEMM library. All functions work on the calling thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kiln::kernels::cpu {

// The panel layout of a (K, N) right factor: column panels of 64 after each other, in a panel row k after row
// k-1, so element (k, n) lies at (n / 64) * 64 * padded_rows(K) + 64 * k + n % 64. Padding rows and columns
// are zero. oneDNN calls it BA16a64b.
inline constexpr int64_t kPanelColumns = 64;
inline constexpr int64_t kPanelRowMultiple = 16;

int64_t padded_rows(int64_t K);
int64_t panel_elements(int64_t K, int64_t N);  // of the whole layout

// Rows [k_begin, k_end) of all panels from a row-major (K, N) matrix, rows ld apart. The range that ends at K
// also gets the padding rows.
void pack_panels(const float* matrix, int64_t ld, int64_t K, int64_t N, int64_t k_begin, int64_t k_end,
                 float* panels);

// The panel of columns [n_begin, min(n_begin + 64, N)) from the transposed matrix: row-major (N, K),
// contiguous.
void pack_transposed_panel(const float* matrix, int64_t K, int64_t N, int64_t n_begin, float* panels);

// out[c * ld_out + r] = in[r * ld_in + c]
void transpose(const float* in, int64_t ld_in, int64_t rows, int64_t columns, float* out, int64_t ld_out);

}  // namespace kiln::kernels::cpu
