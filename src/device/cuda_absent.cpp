// In the place of the other files of src/device/cuda* where kiln is built without CUDA.
#include "src/core/error.h"
#include "src/device/cuda.h"

namespace kiln {
namespace {

[[noreturn]] void refuse() {
  const CudaObstacle obstacle = cuda_obstacle();
  throw Error(ExitCode::device, obstacle.sentence, obstacle.hint);
}

}  // namespace

bool has_cuda() {
  return false;
}

CudaObstacle cuda_obstacle() {
  return {"kiln was built without CUDA",
          "set device.kind to cpu, or build kiln where nvcc is installed (cmake -DKILN_CUDA=ON says what is "
          "missing)"};
}

std::string cuda_versions() {
  return "not built in";
}

Device cuda_device(int) {
  refuse();
}
Device planned_cuda_device() {
  refuse();
}
void* cuda_allocate_zeroed(size_t) {
  refuse();
}
void cuda_release(void*) noexcept {}
size_t cuda_memory_left() {
  refuse();
}

}  // namespace kiln
