// The panel layout and the transposition, element by element: what no GEMM result shows is that padding is
// zero.
#include "kernels/cpu/common/pack.h"

#include "src/core/shape.h"
#include "tests/kernels/support.h"

namespace kiln::tests {
namespace {

namespace cpu = kernels::cpu;

struct Size {
  int64_t rows, columns;
};
constexpr Size kSizes[] = {{1, 1}, {3, 2}, {16, 64}, {17, 65}, {15, 63}, {33, 130}, {48, 16}, {67, 200}};

// What the panels of a (K, N) matrix must hold.
template <class Element>
void expect_panels(const Guarded<float>& panels, Size size, Element element) {
  const int64_t K = size.rows, N = size.columns, padded = round_up(K, 16);
  ASSERT_EQ(panels.size(), padded * round_up(N, 64));
  for (int64_t n = 0; n < round_up(N, 64); n++) {
    for (int64_t k = 0; k < padded; k++) {
      const float actual = panels[n / 64 * 64 * padded + 64 * k + n % 64];
      ASSERT_EQ(actual, k < K && n < N ? element(k, n) : 0.0f) << k << ", " << n << " of " << K << " x " << N;
    }
  }
}

TEST(Pack, PanelsOfRowMajor) {
  for (const Size size : kSizes) {
    const int64_t K = size.rows, N = size.columns, ld = N + 3;
    const Guarded<float> matrix = normal(K * ld, "matrix");
    Guarded<float> panels(cpu::panel_elements(K, N));
    const int64_t half = K / 2;  // any cut into ranges of rows gives the same
    cpu::pack_panels(matrix.data(), ld, K, N, half, K, panels.data());
    cpu::pack_panels(matrix.data(), ld, K, N, 0, half, panels.data());
    expect_panels(panels, size, [&](int64_t k, int64_t n) { return matrix[k * ld + n]; });
  }
}

TEST(Pack, PanelsOfTransposed) {
  for (const Size size : kSizes) {
    const int64_t K = size.rows, N = size.columns;
    const Guarded<float> matrix = normal(N * K, "matrix");
    Guarded<float> panels(cpu::panel_elements(K, N));
    for (int64_t n = 0; n < N; n += cpu::kPanelColumns) {
      cpu::pack_transposed_panel(matrix.data(), K, N, n, panels.data());
    }
    expect_panels(panels, size, [&](int64_t k, int64_t n) { return matrix[n * K + k]; });
  }
}

TEST(Pack, Transpose) {
  for (const Size size : kSizes) {
    const int64_t ld_in = size.columns + 5, ld_out = size.rows + 2;
    const Guarded<float> in = normal(size.rows * ld_in, "in");
    Guarded<float> out(size.columns * ld_out, -1.0f);
    cpu::transpose(in.data(), ld_in, size.rows, size.columns, out.data(), ld_out);
    for (int64_t c = 0; c < size.columns; c++) {
      for (int64_t r = 0; r < ld_out; r++) {
        ASSERT_EQ(out[c * ld_out + r], r < size.rows ? in[r * ld_in + c] : -1.0f) << r << ", " << c;
      }
    }
  }
}

}  // namespace
}  // namespace kiln::tests
