#include "tests/cuda_emulator/libraries/scalars.h"

#include <cmath>
#include <cstring>

#include "tests/cuda_emulator/libraries/blas_common.h"

namespace kiln::emulator {

Scalar::Scalar(const void* pointer, bool on_device, const char* name) {
  invalid_unless(pointer != nullptr, fmt::format("{} is null", name));
  if (on_device) {
    require_device_pointer(address_of(pointer), sizeof(float), sizeof(float), name);
    address_ = address_of(pointer);
    return;
  }
  if (DeviceMemory::instance().is_device(address_of(pointer)))
    throw Finding(fmt::format("{} is a device pointer; the pointer mode says host", name));
  std::memcpy(&value_, pointer, sizeof value_);
}

float Scalar::value(Accesses& accesses, const char* name) const {
  if (address_ == 0) return value_;
  float value;
  std::memcpy(&value, accesses.read(address_, sizeof value, Reading::kWritten, name), sizeof value);
  return value;
}

double Scalar::logged() const {
  return address_ == 0 ? static_cast<double>(value_) : std::nan("");
}

}  // namespace kiln::emulator
