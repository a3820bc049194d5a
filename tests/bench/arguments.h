// What the benchmarks' command lines share: google-benchmark's own flags, and --threads=N.
#pragma once

#include <benchmark/benchmark.h>

#include <charconv>
#include <optional>
#include <string_view>
#include <vector>

#include "src/device/device.h"

namespace kiln {

// The number of threads (all of the machine, if not said) once google-benchmark has its flags; none: it refused one.
inline std::optional<int> initialise_benchmarks(int argc, char** argv) {
  int threads = cpu_device().threads;
  std::vector<char*> rest;
  for (int i = 0; i < argc; i++) {
    const std::string_view argument = argv[i], key = "--threads=";
    if (argument.starts_with(key)) {
      std::from_chars(argument.data() + key.size(), argument.data() + argument.size(), threads);
    } else {
      rest.push_back(argv[i]);
    }
  }
  int count = static_cast<int>(rest.size());
  benchmark::Initialize(&count, rest.data());
  if (benchmark::ReportUnrecognizedArguments(count, rest.data())) return std::nullopt;
  return threads;
}

}  // namespace kiln
