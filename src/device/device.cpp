#include "src/device/device.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "src/core/error.h"

namespace kiln {
namespace {

bool processor_has(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::baseline: return true;
    case Isa::avx2: return __builtin_cpu_supports("x86-64-v3") != 0;
    case Isa::avx512: return __builtin_cpu_supports("x86-64-v4") != 0;
  }
#endif
  return isa == Isa::baseline;
}

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(std::min(line.find(": ") + 2, line.size()));
  }
  return "unknown processor";
}

int usable_processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

}  // namespace

std::string_view name_of(DeviceKind kind) { return kind == DeviceKind::cpu ? "cpu" : "cuda"; }

std::string_view name_of(Isa isa) {
  switch (isa) {
    case Isa::baseline: return "baseline";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
  }
  return "?";
}

Isa best_isa() {
  for (Isa isa : {Isa::avx512, Isa::avx2}) {
    if (processor_has(isa)) return isa;
  }
  return Isa::baseline;
}

Device cpu_device(int threads, std::string_view isa) {
  Device device;
  device.threads = threads > 0 ? threads : usable_processors();
  device.name = processor_name();
  device.memory_bytes = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
  if (isa == "auto") {
    device.isa = best_isa();
    return device;
  }
  for (Isa candidate : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (isa != name_of(candidate)) continue;
    if (!processor_has(candidate)) {
      throw Error(ExitCode::device, fmt::format("this processor ({}) has no {}", device.name, isa), "use \"auto\"");
    }
    device.isa = candidate;
    return device;
  }
  throw Error(ExitCode::device, fmt::format("unknown instruction set \"{}\"", isa),
              "one of auto, baseline, avx2, avx512");
}

}  // namespace kiln
