// The device that a config asks for.
#pragma once

#include "src/config/config.h"
#include "src/device/device.h"

namespace kiln::plan {

// One to run on. Error(ExitCode::device) if it is not there.
Device device_of(const config::DeviceOptions& options);

// One to plan for: a GPU need not be there, but kiln must be built with CUDA.
Device planned_device_of(const config::DeviceOptions& options);

}  // namespace kiln::plan
