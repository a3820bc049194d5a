// alpha and beta: fp32, on the host and read at the call, or on the device and read when the stream gets there.
#pragma once

#include <cstdint>

#include "tests/cuda_emulator/accesses.h"

namespace kiln::emulator {

class Scalar {
 public:
  Scalar() = default;
  // A finding for a pointer of the other kind.
  Scalar(const void* pointer, bool on_device, const char* name);

  float value(Accesses& accesses, const char* name) const;
  double logged() const;  // NaN where it lies on the device

 private:
  float value_ = 0;
  uint64_t address_ = 0;  // on the device
};

}  // namespace kiln::emulator
