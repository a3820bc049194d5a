// The device a run computes on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace kiln {

enum class DeviceKind : uint8_t { cpu, cuda };

// Instruction-set variants of the CPU kernels; baseline is whatever the compiler targets by default.
enum class Isa : uint8_t { baseline, avx2, avx512 };
inline constexpr int kIsas = 3;

std::string_view name_of(DeviceKind kind);
std::string_view name_of(Isa isa);

struct Device {
  DeviceKind kind = DeviceKind::cpu;
  Isa isa = Isa::baseline;
  int threads = 1;           // CPU threads that kernels use
  std::string name;          // as the vendor writes it, for people
  int64_t memory_bytes = 0;  // physical memory, of the GPU where it is one
  int index = 0;             // which GPU
  int capability = 0;        // its compute capability, 10 major + minor
};

// The best instruction set that this processor runs and that kiln was built with.
Isa best_isa();

// The CPU of this machine. threads 0: as many as the process may run on. isa: "auto" or the name of one; an unknown
// name or one that the processor lacks throws Error(ExitCode::device).
Device cpu_device(int threads = 0, std::string_view isa = "auto");

}  // namespace kiln
