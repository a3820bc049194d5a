#include <cblas.h>

#include <string_view>

#include "kernels/cpu/common/matmul.h"
#include "kernels/linear.h"

namespace kiln::kernels {

std::string library_versions() {
  const dnnl_version_t* dnnl = dnnl_version();
  Device best;
  best.isa = best_isa();
  // "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ..."
  const std::string_view config = openblas_get_config();
  const std::string_view blas = config.substr(0, config.find(' ', config.find(' ') + 1));
  return fmt::format("oneDNN {}.{}.{} (packed matmul {}), {} ({})", dnnl->major, dnnl->minor, dnnl->patch,
                     cpu::has_packed_matmul(best) ? "in use" : "not for this processor", blas,
                     openblas_get_corename());
}

}  // namespace kiln::kernels
